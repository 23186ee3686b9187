"""A worker whose runtimes are not of the versions that its profile allows does not start."""

from __future__ import annotations

import pytest

from farm.domain.errors import ProfileMismatch
from hardware_profiles.loader import load_profiles
from hardware_profiles.schema import Profile
from tests.unit.test_probe_trees import TREES
from workers import environments, joining
from workers.edgetpu.library import open_library
from workers.host.probe import probe

PI = "raspberry-pi-4"


def with_versions(*versions: str) -> dict[str, Profile]:
    """Have the Pi's profile allow certain versions of LiteRT."""
    pi = load_profiles()[PI]
    runtimes = {**pi.runtimes, "litert": pi.runtimes["litert"].model_copy(update={"versions": versions})}
    return {**load_profiles(), PI: pi.model_copy(update={"runtimes": runtimes})}


@pytest.mark.parametrize("asked", [PI, joining.AUTO])
def test_another_version_of_a_runtime_is_a_mismatch(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    pinned = environments.pins("litert")["ai-edge-litert"]
    facts = probe(TREES / PI)
    monkeypatch.setattr(joining, "load_profiles", lambda: with_versions("1.0.0", "1.1.0"))

    with pytest.raises(ProfileMismatch) as refused:
        joining.choose_profile(asked, facts)

    assert refused.value.message == (
        f"Runtime litert is ai-edge-litert {pinned} in environment litert; raspberry-pi-4 allows 1.0.0 or 1.1.0."
    )
    monkeypatch.setattr(joining, "load_profiles", lambda: with_versions("1.0.0", pinned))
    assert joining.choose_profile(asked, facts)[1]


def test_every_profiles_runtimes_are_of_a_version_that_it_allows() -> None:
    assert [told for profile in load_profiles().values() for told in joining.version_mismatches(profile)] == []


@pytest.mark.parametrize(
    ("here", "told"),
    [
        (12, ["Accelerator edgetpu: libedgetpu.so.1 on this host is runtime 12; coral-usb allows 13 or 14."]),
        (14, []),
        (None, []),
    ],
)
def test_an_accelerators_library_of_another_runtime_is_a_mismatch(
    monkeypatch: pytest.MonkeyPatch, here: int | None, told: list[str]
) -> None:
    """None: the library is missing, which the runtime says of each of its steps; the host may serve other runtimes."""
    monkeypatch.setattr(joining, "edgetpu_runtime", lambda: here)

    assert joining.version_mismatches(load_profiles()["coral-usb"]) == told


def test_without_the_library_no_version_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "open_library", lambda: open_library("libedgetpu-absent.so.1"))

    assert joining.edgetpu_runtime() is None
