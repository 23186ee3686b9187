"""What a worker must prove before it joins: that the machine is what its profile says."""

from __future__ import annotations

import platform
import re
import secrets
from contextlib import suppress

from pydantic import SecretStr

from farm.domain.catalogue import OWN_QUEUE
from farm.domain.codec import encode
from farm.domain.errors import EnvironmentMissing, ProfileMismatch, UnknownName
from farm.settings import Settings
from farm.wire.hosts import Attestation
from hardware_profiles.loader import load_profiles
from hardware_profiles.schema import Profile, near_misses
from workers import environments
from workers.edgetpu.compiler import PROGRAM, program_digest
from workers.edgetpu.library import LIBRARY, open_library
from workers.host.attest import identify, mismatches
from workers.host.facts import HostFacts
from workers.link import FarmLink
from workers.runtimes import load_runtimes

AUTO, EDGE_TPU = "auto", "edgetpu"


def place(config: Settings, link: FarmLink, profile: str) -> tuple[Settings, str]:
    """Fill in what the farm knows of an enrolled host and nobody set here: its name, its profile, the broker.

    Raises:
        Unauthorized: the token is unknown or revoked.
    """
    told = link.who_am_i()
    known: dict[str, object] = {}
    if config.host_name is None and told.name is not None:
        known["host_name"] = told.name
    if "redis_url" not in config.model_fields_set and told.redis_url is not None:
        known["redis_url"] = SecretStr(told.redis_url)
    if profile == AUTO and told.profile is not None:
        profile = told.profile
    return config.model_copy(update=known), profile


def choose_profile(name: str, facts: HostFacts) -> tuple[Profile, bool]:
    """Find the profile to serve, and whether this machine is it (and may measure), not merely compatible with it.

    Raises:
        UnknownName: no such profile.
        ProfileMismatch: the machine does not satisfy it; every mismatch is a line of the message.
    """
    profiles = load_profiles()
    identity = identify(facts, profiles)
    if name == AUTO:
        if identity.profile is None:
            raise ProfileMismatch(identity.reason, remedy="Name a profile: farm worker --profile NAME.")
        if wrong := version_mismatches(profiles[identity.profile]):
            raise ProfileMismatch("\n".join(wrong), mismatches=wrong)
        return profiles[identity.profile], True
    if name not in profiles:
        close = " or ".join(near_misses(name, profiles))
        raise UnknownName(f"There is no profile {name!r}" + (f"; did you mean {close}?" if close else "."))
    if wrong := [*mismatches(facts, profiles[name]), *version_mismatches(profiles[name])]:
        raise ProfileMismatch("\n".join(wrong), mismatches=wrong)
    return profiles[name], identity.profile == name


def version_mismatches(profile: Profile) -> list[str]:
    """List the runtimes of another version than the profile allows, and of accelerators', one full sentence each."""
    told = accelerator_mismatches(profile)
    for name, use in profile.runtimes.items():
        package = load_runtimes()[name].tools[0]
        version = environments.pins(use.environment).get(package)
        if use.versions and version not in use.versions:
            allowed = " or ".join(use.versions)
            told.append(
                f"Runtime {name} is {package} {version or '(not pinned)'} in environment {use.environment}; "
                f"{profile.name} allows {allowed}."
            )
    return told


def accelerator_mismatches(profile: Profile) -> list[str]:
    """List the accelerators whose library is of a runtime version that the profile does not allow.

    A library that is missing, or tells no version, is left to the runtime, which refuses its steps by name.
    """
    told = []
    for device in profile.accelerators:
        here = edgetpu_runtime() if device.name == EDGE_TPU and device.runtime_versions else None
        if here is not None and here not in device.runtime_versions:
            allowed = " or ".join(map(str, device.runtime_versions))
            told.append(
                f"Accelerator {device.name}: {LIBRARY} on this host is runtime {here}; {profile.name} allows {allowed}."
            )
    return told


def edgetpu_runtime() -> int | None:
    """Ask libedgetpu for its runtime version; None where it is not installed or does not tell."""
    with suppress(EnvironmentMissing):
        return open_library().runtime_version
    return None


def attestation(
    config: Settings, profile: Profile, facts: HostFacts, *, can_measure: bool, isolation: str
) -> Attestation:
    """Say what this host is, has and serves: builds of its architecture; its target and itself when it may measure."""
    name = config.host_name or _machine_name()
    serves = [f"build.{platform.machine()}"]
    serves += [f"target.{profile.name}", f"{OWN_QUEUE}{name}"] if can_measure else []
    return Attestation.model_validate(
        {
            "name": name,
            "instance": secrets.token_hex(16),
            "profile": profile.name,
            "can_measure": can_measure,
            "architecture": platform.machine(),
            "emulated": facts.emulated,
            "isolation": isolation,
            "environments": _environments(config),
            "serves": serves,
            "facts": encode(facts),
        }
    )


def _environments(config: Settings) -> dict[str, str]:
    """List the environments that are completely installed, by the digest of the lock they came from.

    A program that the operator supplies stands among them by its own digest.
    """
    folder = config.environments_dir
    found = {name: environments.installed_digest(folder, name) for name in environments.names()}
    found[PROGRAM] = program_digest(f"{folder / 'litert' / 'bin'}:/usr/bin:/bin")
    return {name: digest for name, digest in found.items() if digest is not None}


def _machine_name() -> str:
    return re.sub(r"[^a-zA-Z0-9._-]", "-", platform.node()).strip("-._")[:63] or "host"
