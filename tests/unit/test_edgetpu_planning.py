"""A compiler that the operator supplies is part of a step's key: another compiler, another step."""

from __future__ import annotations

from farm.catalog import world
from farm.domain.binding import bind
from farm.domain.catalogue import LiveHost
from farm.domain.plan import Input, PlannedStep
from workers import environments
from workers.edgetpu.compiler import PROGRAM
from workers.stages import load_specs

SPEC = load_specs()["compile-tflite-to-edgetpu-tflite"]


def planned(*compilers: str | None) -> PlannedStep:
    """Plan a compilation with one build host for each compiler; None is a host without one."""
    lock = {SPEC.environment: environments.lock_digest(SPEC.environment)}
    hosts = tuple(
        LiveHost(f"b{number}", "x86-64-v3", "x86_64", False, ("build.x86_64",), lock | ({PROGRAM: one} if one else {}))
        for number, one in enumerate(compilers)
    )
    given = Input("model", step="d" * 64)
    return bind(SPEC, (given,), SPEC.options(), world=world(hosts), target=None, title="", wanted=None)


def test_a_new_compiler_is_a_new_step() -> None:
    assert planned("a" * 64).key == planned("a" * 64).key
    assert planned("a" * 64).key != planned("b" * 64).key
    assert planned("a" * 64).options["compiler_sha256"] == "a" * 64


def test_a_build_host_without_a_compiler_does_not_hide_the_one_that_has_it() -> None:
    assert planned(None, "a" * 64).key == planned("a" * 64).key


def test_without_any_compiler_the_step_is_planned_and_says_so_when_it_runs() -> None:
    assert planned(None).options["compiler_sha256"] is None
    assert planned(None).programs == {}


def test_the_step_says_which_program_its_host_must_have() -> None:
    assert planned("a" * 64, None).programs == {PROGRAM: "a" * 64}
