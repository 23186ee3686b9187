"""Every profile holds together, and those called verified are recognised from a tree of their machine."""

from pathlib import Path

import pytest

from hardware_profiles.loader import FOLDER, load_profiles
from hardware_profiles.schema import Profile
from workers.host.attest import identify, mismatches
from workers.host.facts import HostFacts
from workers.host.probe import probe

TREES = Path(__file__).parents[1] / "trees"
IDENTITIES = {
    "raspberry-pi-3b-plus": "raspberry-pi-3b-plus",
    "raspberry-pi-zero-2-w": "raspberry-pi-zero-2-w",
    "raspberry-pi-4": "raspberry-pi-4",
    "raspberry-pi-5": "raspberry-pi-5",
    "coral-dev-board": "coral-dev-board",
    "rockchip-rk3588": "rockchip-rk3588",
    "jetson-orin-nano": "jetson-orin-nano",
    "nxp-imx8m-plus": "nxp-imx8m-plus",
    "graviton3": "graviton3",
    "x86-avx2": "x86-64-v3",
    "intel-n100": "intel-n100",
    "emulated-aarch64": "emulated-aarch64",
}
PROFILES = load_profiles()


def facts_of(tree: str) -> HostFacts:
    return probe(TREES / tree)


def test_every_file_is_a_profile_or_abstract() -> None:
    files = {path.stem for path in FOLDER.glob("*.yaml")}
    assert set(PROFILES) | {"aarch64-board"} == files


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_profile_says_where_its_facts_come_from_and_what_runs_on_it(profile: Profile) -> None:
    assert all(len(source) > 10 for source in profile.sources)
    assert profile.runtimes
    assert profile.measurement.threads[0] == 1
    assert profile.field("measurement.governor") in (None, "performance")


def test_every_tree_has_an_identity_that_is_expected() -> None:
    assert {path.name for path in TREES.iterdir() if path.is_dir()} == set(IDENTITIES)


@pytest.mark.parametrize("tree", IDENTITIES)
def test_tree_is_recognised_as_its_profile_only(tree: str) -> None:
    identity = identify(facts_of(tree), PROFILES)
    assert identity.profile == IDENTITIES[tree], identity.reason
    assert mismatches(facts_of(tree), PROFILES[IDENTITIES[tree]]) == []


def test_verified_profiles_are_exactly_those_with_a_tree() -> None:
    assert {name for name, profile in PROFILES.items() if profile.verified} == set(IDENTITIES.values())


def test_emulated_profiles_never_accept_a_real_machine_and_the_other_way_round() -> None:
    for tree in IDENTITIES:
        facts = facts_of(tree)
        for profile in PROFILES.values():
            if profile.emulated != bool(facts.emulated):
                assert mismatches(facts, profile)
