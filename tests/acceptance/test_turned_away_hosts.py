"""Workers that the farm turns away, as real processes on a machine of their own: by token, and by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.acceptance.test_lost_hosts import HOST, Far, far, until
from tests.emulated_fixtures import Elsewhere, farm_elsewhere
from workers.pulse import TURNED_AWAY_EXIT

__all__ = ["far"]
pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.toolchain, pytest.mark.timeout(600)]
REFUSED_EXIT = 2


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with farm_elsewhere("postgres", "redis", "s3", "api", "control") as made:
        yield made


def test_a_running_worker_whose_token_is_revoked_ends_with_the_reason_and_the_token_starts_none(far: Far) -> None:
    far.start()

    assert far.farm.command("host", "revoke", HOST).returncode == 0

    assert far.exit_code(30) == TURNED_AWAY_EXIT
    assert f"The token of host {HOST} was revoked at " in far.told
    assert far.view()["state"] == "revoked"
    far.launch()
    assert far.exit_code(60) == REFUSED_EXIT
    assert f"farm host enroll {HOST}" in " ".join(far.told.split())
    assert "ready." not in far.told


@pytest.mark.parametrize("named", [True, False], ids=["of another host", "never given"])
def test_a_worker_with_a_foreign_token_does_not_start(far: Far, named: bool) -> None:
    enrolled = far.farm.command("host", "enroll", "other", "--json")
    token = json.loads(enrolled.stdout)["token"] if named else "never-given"
    foreign = replace(far, token=token, variables={"FARM_HOST_NAME": HOST})

    foreign.launch()

    assert foreign.exit_code(60) == REFUSED_EXIT
    expected = f"This token is host other's; the call speaks for {HOST}." if named else "The token is unknown here."
    assert expected in " ".join(foreign.told.split())


def test_of_two_workers_with_one_name_the_second_is_refused_and_the_first_works_on(far: Far) -> None:
    far.start()
    second = replace(far, log=far.log.with_name("second.log"), process=None)

    second.launch()

    assert second.exit_code(90) == REFUSED_EXIT
    assert f"A worker named {HOST} serves already" in " ".join(second.told.split())
    assert "ready." not in second.told
    until(lambda: f"asked for the name {HOST}" in far.told, 15, lambda: far.told[-2000:])
    result = far.end(far.submit())
    assert result["state"] == "succeeded", result
    assert result["conditions"]["host"] == HOST
