"""Figures beside the latencies have conditions of their own: what befalls the host while they are taken is told."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import Actor, ArtifactBroken, BadMeasurement, FarmError
from hardware_profiles.loader import load_profiles
from workers.further import Further
from workers.measuring import Taken
from workers.results import Made

TREES = Path(__file__).parents[1] / "trees"
PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
DECODER = [{"name": name} for name in ("input_ids", "attention_mask", "position_ids", "past_key_values.0.key")]
RUN = {
    "times_us": [1000.0] * 30,
    "first_load_us": 9e3,
    "warm_load_us": 5e3,
    "first_inference_us": 2e3,
    "peak_memory_bytes": 1,
    "threads": 1,
}
TOLD: dict[str, dict[str, Any]] = {
    "latency": RUN,
    "sustained": {"started_s": 0.0, "window_s": 1.0, "windows": [{"start_s": 0.0, "times_us": [1000.0]}]},
    "generation": {
        "prompt_tokens": 4,
        "first_token_us": [900.0],
        "token_us": [[100.0]],
        "peak_memory_bytes": 1,
        "tokens": [1, 2],
    },
}


def pass_time(root: Path, *, idle: int, busy: int) -> None:
    """Let every core of a tree count so many ticks more."""
    lines = []
    for line in (root / "proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu"):
            ticks[0], ticks[3] = str(int(ticks[0]) + busy), str(int(ticks[3]) + idle)
        lines.append(" ".join([name, *ticks]))
    (root / "proc/stat").write_text("\n".join(lines) + "\n")


def further(root: Path, mode: str, *, emulated: bool | None = False, busy: int = 0, throttled: str = "0") -> Further:
    """Have stand-ins for processes of one mode run while the tree of a Raspberry Pi 4 changes."""
    shutil.copytree(TREES / "raspberry-pi-4", root)

    def run(files: object, changes: Mapping[str, Any], cores: tuple[int, ...]) -> Made:
        asked = changes.get("mode", "latency")
        pass_time(root, idle=1000, busy=busy if asked == mode else 0)
        (root / PI_THROTTLED).write_text(throttled if asked == mode else "0")
        return Made(facts=TOLD[asked], cpu_s=0.0)

    return Further(run, load_profiles()["raspberry-pi-4"], (3,), emulated, root)


ASKED = {"threads_sweep": [1], "sustained_s": 10.0, "input_specs": DECODER}


def conditions(told: Mapping[str, Any]) -> dict[str, tuple[bool, list[str]]]:
    parts = {"latency": told["threads_sweep"][0], "sustained": told["sustained"], "generation": told["generation"]}
    return {name: (part["conditions"]["valid"], part["conditions"]["reasons"]) for name, part in parts.items()}


@pytest.mark.parametrize("mode", ["latency", "generation", "sustained"])
def test_work_that_begins_beside_one_run_invalidates_that_one_alone(tmp_path: Path, mode: str) -> None:
    told = conditions(further(tmp_path / "pi", mode, busy=500).take(ASKED))

    assert told == {name: (name != mode, ["loaded"] * (name == mode)) for name in TOLD}


@pytest.mark.parametrize("mode", ["latency", "generation"])
def test_a_board_that_throttles_then_invalidates_the_figures_of_then(tmp_path: Path, mode: str) -> None:
    told = conditions(further(tmp_path / "pi", mode, throttled="50005").take(ASKED))

    assert told[mode] == (False, ["throttled"])


def test_a_sustained_run_is_there_to_throttle(tmp_path: Path) -> None:
    told = further(tmp_path / "pi", "sustained", throttled="50005").take(ASKED)

    assert told["sustained"]["throttled_by"]
    assert conditions(told)["sustained"] == (True, [])


def test_on_an_emulated_host_no_figure_counts(tmp_path: Path) -> None:
    told = conditions(further(tmp_path / "pi", "", emulated=True).take(ASKED))

    assert all(not valid and reasons[0] == "emulated" for valid, reasons in told.values())


def test_threads_are_swept_on_the_cores_of_the_host_that_is_read(tmp_path: Path) -> None:
    (told,) = further(tmp_path / "pi", "").take({"threads_sweep": [5]})["threads_sweep"]

    assert "this process may use 4" in told["why_not"]


@pytest.mark.parametrize(
    ("reference", "candidate", "kind"),
    [({}, {"times_us": [-1.0]}, ArtifactBroken), ({"times_us": [-1.0]}, {}, BadMeasurement)],
)
def test_an_artifact_that_reports_nonsense_does_not_speak_for_its_host(
    reference: dict[str, Any], candidate: dict[str, Any], kind: type[FarmError]
) -> None:
    """Given a reference model that the host times well; then what only the other process tells is the artifact's."""
    with pytest.raises(kind, match="not positive numbers") as caught:
        Taken([], [], []).add(Made(facts=RUN | reference), Made(facts=RUN | candidate))

    assert (caught.value.who_must_act is Actor.HOST) is (kind is BadMeasurement)
