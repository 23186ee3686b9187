"""A job that is pinned to one host of its target: what runs on the target is, and nobody else shares it."""

from __future__ import annotations

from dataclasses import replace

from farm.domain.catalogue import LiveHost
from farm.domain.plan import Plan
from farm.domain.wanted import World
from tests.domain_world import HOSTS, WORLD, model, planned, refused

ON_TARGET = ("compare", "evaluate", "measure")
PLAIN = next(host for host in HOSTS if "target.plain-box" in host.serves)
FIRST, TWIN = (replace(PLAIN, name=name, serves=(*PLAIN.serves, f"host.{name}")) for name in ("first", "twin"))
TWO = World(WORLD.catalogue, WORLD.targets, (*(host for host in HOSTS if host is not PLAIN), FIRST, TWIN))


def pinned(host: str | None) -> Plan:
    return planned(model("m"), world=TWO, targets=("plain-box",), host=host)


def keys(plan: Plan, *, on_target: bool) -> set[str]:
    return {key for key, step in plan.steps.items() if (step.target is not None) is on_target}


def test_what_runs_on_the_target_goes_to_the_hosts_own_queue_and_builds_go_where_they_always_do() -> None:
    steps = pinned("twin").steps.values()

    assert {step.queue for step in steps if step.target} == {"host.twin"}
    assert {step.queue for step in steps if not step.target} == {
        step.queue for step in pinned(None).steps.values() if not step.target
    }


def test_two_boards_of_one_profile_share_what_is_built_and_nothing_that_is_run() -> None:
    one, other, any_host = pinned(FIRST.name), pinned("twin"), pinned(None)

    assert keys(one, on_target=False) == keys(other, on_target=False) == keys(any_host, on_target=False)
    assert keys(one, on_target=True).isdisjoint(keys(other, on_target=True))
    assert keys(one, on_target=True).isdisjoint(keys(any_host, on_target=True))


def test_a_self_test_runs_everything_on_its_host_anew_and_builds_nothing_anew() -> None:
    """Else tomorrow's test takes over the comparison that succeeded today."""
    today, tomorrow = (
        planned(model("m"), world=TWO, targets=("plain-box",), host="twin", job=job, tests_host=True)
        for job in ("job-1", "job-2")
    )
    plain = [pinned("twin"), planned(model("m"), world=TWO, targets=("plain-box",), host="twin", job="job-2")]

    assert keys(today, on_target=False) == keys(tomorrow, on_target=False)
    assert keys(today, on_target=True).isdisjoint(keys(tomorrow, on_target=True))
    shared = keys(plain[0], on_target=True) & keys(plain[1], on_target=True)
    assert {plain[0].steps[key].kind for key in shared} == {"compare", "evaluate"}, "others share comparisons"


def test_a_host_that_is_not_there_is_refused_with_those_that_are() -> None:
    (message,) = refused(world=TWO, targets=("plain-box",), host="twni")

    assert message == "No live host in rotation is called 'twni': did you mean twin?"


def test_a_host_of_another_target_is_refused() -> None:
    builder = LiveHost("shed", "plain-box", "x86_64", False, ("build.x86_64",), FIRST.environments)

    (message,) = refused(world=replace(TWO, hosts=(*TWO.hosts, builder)), targets=("plain-box",), host="shed")

    assert message == "Host shed does not serve target plain-box; it serves builds only."
