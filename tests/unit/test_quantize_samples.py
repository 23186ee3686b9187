"""Which samples a quantizer sees: none of those that the report is told on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from farm.domain.facts import TensorSpec
from farm.domain.stage import StageInput
from workers.stages import load_specs
from workers.stages.npz import NpzReader
from workers.stages.quantize.selection import CalibratedOptions, split_samples
from workers.stages.samples import split_rows

X = (TensorSpec("x", "float32", (1, 3)),)


def given(folder: Path, count: int, *, reports: bool) -> StageInput:
    rows = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    np.savez(folder / "data.npz", x=rows)
    options = CalibratedOptions(input_specs=X, reports=reports)
    return StageInput({"calibration": folder / "data.npz"}, options, {}, None, folder)


def values(feeds: tuple[dict[str, np.ndarray], ...]) -> set[bytes]:
    return {feed["x"].tobytes() for feed in feeds}


@pytest.mark.parametrize("reports", [True, False])
def test_calibration_selection_and_report_share_no_sample(tmp_path: Path, reports: bool) -> None:
    asked = given(tmp_path, 32, reports=reports)
    found = split_samples(asked)
    with NpzReader(tmp_path / "data.npz") as data:
        reported = set(split_rows(data, X, reports=True).report)
        told = {row.tobytes() for at, row in enumerate(data.rows("x")) if at in reported}

    calibrating, selecting = values(found.calibration), values(found.selection)
    assert len(calibrating) == 16
    assert not calibrating & selecting
    assert len(told) == 8
    assert bool((calibrating | selecting) & told) is not reports


def test_a_handful_of_samples_does_both(tmp_path: Path) -> None:
    found = split_samples(given(tmp_path, 4, reports=True))

    assert values(found.calibration) == values(found.selection)


def test_every_stage_that_calibrates_can_leave_samples_for_the_report() -> None:
    calibrating = [spec for spec in load_specs().values() if "calibration" in spec.inputs]

    assert calibrating
    assert [spec.name for spec in calibrating if not issubclass(spec.options, CalibratedOptions)] == []
