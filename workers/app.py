"""A worker from start to end: prove, join, serve its queues."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import structlog

from farm.domain.errors import IsolationTooWeak, Unauthorized
from farm.domain.statistics.stability import StabilityRule
from farm.queue import make_app
from farm.settings import Settings, settings
from farm.transfer import open_link
from farm.wire.hosts import Attestation
from hardware_profiles.schema import Profile
from workers.cache import Cache
from workers.host.facts import HostFacts
from workers.host.lock import HostLock
from workers.host.probe import probe
from workers.joining import attestation, choose_profile, place
from workers.launcher.outside import Outside
from workers.link import FarmLink
from workers.measuring import Bench
from workers.pulse import Pulse
from workers.queues import Queues
from workers.runner import Runner
from workers.sandbox import Level, Sandbox
from workers.stages import load_specs, preload_of
from workers.tasks import register

log = structlog.get_logger()
CODE_ROOT = Path(__file__).parent.parent
TRAVERSABLE = 0o711
"""The sandbox's users pass through the worker's folders to what they are given; they can't list them."""


def serve(profile: str) -> None:
    """Run a worker until it is told to stop.

    Raises:
        ProfileMismatch: before anything of the farm is asked.
        ConfigurationError: the sandbox is too weak, or a setting is missing.
    """
    facts = probe()
    choose_profile(profile, facts)
    config = settings()
    if config.token is None:
        raise Unauthorized("A worker needs its host's token in FARM_TOKEN: farm host enroll NAME gives one.")
    link = FarmLink(config.url, config.token.get_secret_value(), budget_s=config.transfer_budget_s)
    config, profile = place(config, link, profile)
    chosen, can_measure = choose_profile(profile, facts)
    with ExitStack() as held:
        _serve(config, link, Proven(chosen, facts, can_measure), held)


@dataclass(frozen=True, slots=True)
class Proven:
    """What this machine is, and whether it may measure as that."""

    profile: Profile
    facts: HostFacts
    can_measure: bool


def _serve(config: Settings, link: FarmLink, proven: Proven, held: ExitStack) -> None:
    profile = proven.profile
    os.umask(0o022)
    for folder in (config.work_dir, config.cache_dir):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(TRAVERSABLE)
    held.enter_context(_cleared(config.work_dir))
    sandbox = held.enter_context(_isolation(config, proven.facts))
    said = attestation(config, profile, proven.facts, can_measure=proven.can_measure, isolation=sandbox.level.value)
    queues = Queues(said)
    lock = HostLock()
    pulse = Pulse(
        link,
        lambda: said,
        every_s=config.heartbeat_s,
        on_quarantine=queues.quarantine,
        held_by_others=lock.held_by_others,
    )
    runner = Runner(
        name=said.name,
        config=config,
        link=link,
        store=held.enter_context(open_link(budget_s=config.transfer_budget_s)),
        pulse=pulse,
        sandbox=sandbox,
        lock=lock,
        cache=Cache(config.cache_dir.resolve(), config.cache_limit_bytes),
        bench=Bench(
            said.name,
            profile,
            StabilityRule(processes_max=config.measurement_processes_max, budget_s=config.measurement_budget_s),
        ),
    )
    pulse.start()
    held.callback(pulse.close)
    threading.Thread(target=_warm, args=(runner, said), name="warm", daemon=True).start()
    log.info("The worker serves.", action="start", host=said.name, profile=profile.name, queues=said.serves)
    _consume(config, queues, runner)


def _isolation(config: Settings, facts: HostFacts) -> Sandbox:
    """Choose what steps run in: the sandbox, or a launcher around the emulator.

    Raises:
        IsolationTooWeak: the level is not accepted, or an emulated worker has no launcher.
    """
    if config.launcher is not None:
        return cast(Sandbox, Outside(config.launcher, environments_dir=config.environments_dir))
    if facts.emulated:
        raise IsolationTooWeak(
            f"This machine is emulated ({'; '.join(facts.emulation.evidence)}), where the sandbox's layers do not "
            "exist, and no launcher was named that would run its steps from outside.",
            remedy="Start it on the machine itself: farm worker --profile NAME --root DIR.",
        )
    return Sandbox(
        folder=config.work_dir.resolve() / "sandbox",
        accept=[Level(level) for level in config.accept_isolation],
        code_root=CODE_ROOT,
        slots=config.concurrency,
    )


@contextmanager
def _cleared(work: Path) -> Iterator[None]:
    """Remove the attempts that a killed worker left, unless another worker holds this folder."""
    with (work / "lock").open("w") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in work.glob("attempt-*"):
                shutil.rmtree(left, ignore_errors=True)
        yield


def _warm(runner: Runner, said: Attestation) -> None:
    """Start the zygotes of the installed environments, so that steps find them warm; a measurement is not disturbed."""
    specs = load_specs().values()
    wanted = {(s.environment, preload_of(s)) for s in specs if s.preload and not s.fresh and not s.spawns}
    for environment, preload in sorted(wanted):
        if environment in said.environments:
            with runner.lock.shared("warm"):
                runner.sandbox.warm(runner.config.environments_dir.resolve() / environment, preload)


def _consume(config: Settings, queues: Queues, runner: Runner) -> None:
    """Take messages; the HTTP client's own log is left out, for it shows presigned URLs."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = make_app(config.redis_url.get_secret_value())
    register(app, runner)
    queues.consume(app, concurrency=config.concurrency)


def main() -> None:
    serve(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FARM_PROFILE", "auto"))


if __name__ == "__main__":
    main()
