"""Profile files that are wrong are refused with file and key; right ones inherit as documented."""

from pathlib import Path

import pytest

from hardware_profiles.loader import ProfileError, load_profiles
from hardware_profiles.schema import near_misses

BASE = """
name: base
title: A base
architecture: [x86_64]
cpu: {features_required: [avx2], parts: []}
identity: {features: [avx2]}
memory_min_bytes: 1000
runtimes: {litert: {environment: litert}}
sources: ["a manual"]
verified: true
"""
CHILD = """
name: child
title: A child
extends: base
cpu: {features_required: [fma]}
sources: ["another manual"]
"""


def load(folder: Path, **files: str) -> dict:
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(content)
    return load_profiles(folder)


def refusal(folder: Path, **files: str) -> str:
    with pytest.raises(ProfileError) as caught:
        load(folder, **files)
    return str(caught.value)


def test_child_adds_features_and_takes_the_rest(tmp_path: Path) -> None:
    child = load(tmp_path, base=BASE, child=CHILD)["child"]
    assert child.field("cpu.features_required") == ["avx2", "fma"]
    assert child.memory_min_bytes == 1000
    assert child.runtimes["litert"].environment == "litert"


def test_child_is_not_verified_because_its_parent_is(tmp_path: Path) -> None:
    profiles = load(tmp_path, base=BASE, child=CHILD)
    assert profiles["base"].verified
    assert not profiles["child"].verified


def test_abstract_profile_is_only_extended(tmp_path: Path) -> None:
    profiles = load(tmp_path, base=BASE.replace("verified: true", "abstract: true"), child=CHILD)
    assert set(profiles) == {"child"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("memory_min_bytes", "memory_min_byte"), ["base.yaml: memory_min_byte: unknown key", "memory_min_bytes"]),
        (("features_required: [avx2]", "feature_required: [avx2]"), ["cpu.feature_required", "features_required"]),
        (("[avx2], parts", "[avx3], parts"), ["cpu.features_required", "'avx3'", "did you mean avx"]),
        (("[avx2], parts", "[asimd], parts"), ["x86_64 has no feature 'asimd'"]),
        (("parts: []", "features_forbidden: [avx2]"), ["avx2 is both required and forbidden"]),
        (("parts: []", "parts: [cortex-a72]"), ["base.yaml: cpu.parts.0", "cortex-a72"]),
        (("memory_min_bytes: 1000", "numeric: {sve: true}"), ["base.yaml: numeric.sve", "sve2"]),
        (("memory_min_bytes: 1000", "memory_min_bytes: -5"), ["base.yaml: memory_min_bytes", "-5"]),
        (("memory_min_bytes: 1000", "title: Twice"), ["base.yaml", "'title' stands twice"]),
        (("memory_min_bytes: 1000", "measurement: {load_max: 7}"), ["base.yaml: measurement.load_max", "7"]),
        (("memory_min_bytes: 1000", "accelerators: [{name: npu}]"), ["accelerator npu has no usb_ids"]),
        (("identity: {features: [avx2]}", "identity: {}"), ["base.yaml", "nothing would prove"]),
        (("name: base", "name: other"), ["base.yaml: name: is 'other'"]),
        (("name: base", "name: [unclosed"), ["base.yaml: not readable as YAML"]),
        (('sources: ["a manual"]', "sources: []"), ["base.yaml: sources"]),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_wrong_file_is_refused_with_file_and_key(tmp_path: Path, change: tuple[str, str], words: list[str]) -> None:
    message = refusal(tmp_path, base=BASE.replace(*change))
    assert all(word in message for word in words), message


def test_circle_of_inheritance_is_refused_and_drawn(tmp_path: Path) -> None:
    message = refusal(tmp_path, base=BASE + "extends: child\n", child=CHILD)
    assert "base.yaml: extends: inheritance goes in a circle: base -> child -> base" in message


def test_unknown_parent_is_refused_with_a_near_miss(tmp_path: Path) -> None:
    message = refusal(tmp_path, base=BASE, child=CHILD.replace("extends: base", "extends: bas"))
    assert "child.yaml: extends: there is no profile 'bas'; did you mean base?" in message


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path, base=BASE.replace("title", "titel"), child=CHILD.replace("[fma]", "[fmaa]")).splitlines()
    assert {line.split(":")[0] for line in lines} == {"base.yaml", "child.yaml"}
    assert len(lines) >= 3


def test_field_that_does_not_exist_names_the_near_miss(tmp_path: Path) -> None:
    profile = load(tmp_path, base=BASE)["base"]
    with pytest.raises(KeyError, match="did you mean features_required"):
        profile.field("cpu.feature_required")


def test_near_misses_of_a_target() -> None:
    assert near_misses("raspberry-pi4", load_profiles())[0] == "raspberry-pi-4"
    assert near_misses("qqqq", load_profiles()) == []
