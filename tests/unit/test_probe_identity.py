"""Satisfying a profile is the absence of mismatches; identity needs evidence, and ties are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from hardware_profiles.loader import load_profiles
from hardware_profiles.schema import Profile
from workers.host.attest import identify, mismatches, satisfying
from workers.host.facts import Cpu, Devices, Emulation, HostFacts
from workers.host.probe import probe

TREES = Path(__file__).parents[1] / "trees"
PROFILES = load_profiles()
LEVELS = ["x86-64-v2", "x86-64-v3", "x86-64-v3-vnni", "x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-amx"]


def box(*more: str, without: tuple[str, ...] = ()) -> HostFacts:
    """Give the AVX2 machine with features added or taken away."""
    facts = probe(TREES / "x86-avx2")
    features = (set(facts.cpu.features) | set(more)) - set(without)
    return replace(facts, cpu=replace(facts.cpu, features=tuple(sorted(features))))


AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        (box(without=("avx2", "fma", "bmi1", "bmi2", "avx", "f16c", "movbe")), "x86-64-v2"),
        (box(), "x86-64-v3"),
        (box("avx_vnni"), "x86-64-v3-vnni"),
        (box(*AVX512), "x86-64-v4"),
        (box(*AVX512, "avx512_vnni"), "x86-64-v4-vnni"),
        (box(*AVX512, "avx512_vnni", "avx_vnni"), "x86-64-v4-vnni"),
        (box(*AVX512, "avx512_vnni", "amx_tile", "amx_int8"), "x86-64-v4-amx"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_x86_machine_is_its_exact_level(facts: HostFacts, level: str) -> None:
    assert identify(facts, PROFILES).profile == level


def test_x86_machine_satisfies_the_levels_below_its_own() -> None:
    assert satisfying(box(*AVX512, "avx512_vnni"), PROFILES) == [
        "x86-64-v2",
        "x86-64-v3",
        "x86-64-v4",
        "x86-64-v4-vnni",
    ]


def test_this_machine_is_the_level_its_flags_say() -> None:
    facts = probe()
    if facts.architecture != "x86_64" or facts.emulated:
        pytest.skip("written for real x86-64 machines")
    best = max((name for name in LEVELS if not mismatches(facts, PROFILES[name])), key=LEVELS.index)
    identity = identify(facts, PROFILES)
    assert identity.profile == best or "model" in identity.reason or "edgetpu" in identity.reason


def test_every_mismatch_is_a_sentence_of_its_own() -> None:
    found = mismatches(probe(TREES / "x86-avx2"), PROFILES["raspberry-pi-5"])
    assert len(found) == 3
    assert found[0] == "The architecture is x86_64; raspberry-pi-5 requires aarch64."
    assert "part is unknown; raspberry-pi-5 requires 0x41/0xd0b" in found[1]
    assert "lacks fp, asimd, crc32, atomics, asimdhp, asimddp" in found[2]


def test_too_little_memory_and_a_missing_accelerator_are_told_together() -> None:
    facts = replace(probe(TREES / "coral-dev-board"), memory_bytes=512 << 20, devices=Devices())
    assert mismatches(facts, PROFILES["coral-dev-board"]) == [
        "The memory is 512 MiB; coral-dev-board requires 763 MiB.",
        "No edgetpu is attached; coral-dev-board requires one at PCI 1ac1:089a or /dev/apex_*.",
    ]


def test_unknown_is_a_mismatch_and_said_to_be_unknown() -> None:
    facts = replace(box(), cpu=Cpu(None, None, (), ()), memory_bytes=None)
    found = " ".join(mismatches(facts, PROFILES["intel-n100"]))
    for words in ("CPU model is unknown", "CPU features are unknown", "memory's size is unknown"):
        assert words in found


def test_emulated_pi_is_not_a_pi() -> None:
    facts = replace(probe(TREES / "raspberry-pi-4"), emulation=Emulation(True, ("qemu is mapped into this process",)))
    assert mismatches(facts, PROFILES["raspberry-pi-4"]) == [
        "The CPU is emulated (qemu is mapped into this process); raspberry-pi-4 requires a real one."
    ]
    assert identify(facts, PROFILES).profile == "emulated-aarch64"


def test_right_cpu_without_the_boards_name_has_no_identity() -> None:
    facts = probe(TREES / "raspberry-pi-4")
    nameless = replace(facts, board=replace(facts.board, device_tree_compatible=()))
    assert "raspberry-pi-4" in satisfying(nameless, PROFILES)
    assert identify(nameless, PROFILES).profile is None


def test_accelerator_outweighs_the_board_it_is_plugged_into() -> None:
    facts = replace(probe(TREES / "raspberry-pi-4"), devices=Devices(usb_ids=("18d1:9302",)))
    assert identify(facts, PROFILES).profile == "coral-usb"


def test_board_with_its_own_edge_tpu_is_the_board() -> None:
    assert "coral-m2" in satisfying(probe(TREES / "coral-dev-board"), PROFILES)
    assert identify(probe(TREES / "coral-dev-board"), PROFILES).profile == "coral-dev-board"


def test_profile_gives_way_to_one_that_extends_it() -> None:
    child = PROFILES["raspberry-pi-4"].model_copy(update={"name": "a-pi-4-of-2-gb", "extends": "raspberry-pi-4"})
    identity = identify(probe(TREES / "raspberry-pi-4"), {**PROFILES, child.name: child})
    assert identity.profile == "a-pi-4-of-2-gb"


def test_tie_is_refused_naming_both() -> None:
    twin = PROFILES["raspberry-pi-4"].model_copy(update={"name": "raspberry-pi-4-twin"})
    profiles: dict[str, Profile] = {**PROFILES, twin.name: twin}
    identity = identify(probe(TREES / "raspberry-pi-4"), profiles)
    assert identity.profile is None
    assert identity.candidates == ("raspberry-pi-4", "raspberry-pi-4-twin")
    assert "raspberry-pi-4 and raspberry-pi-4-twin" in identity.reason
