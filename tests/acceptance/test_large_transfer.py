"""A model of 3 GB passes through API and worker, which hold none of it in memory."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farm.client import Client
from farm.local import Stack
from tests.stage_fixtures import PREPARED, ROOT

ROWS, COLUMNS = 196_608, 4_096
SIZE_BYTES = ROWS * COLUMNS * 4
EXTRA_LIMIT_BYTES = 150 << 20
SAMPLE_EVERY_S = 0.1
MAKE_MODEL = f"""
import sys
from onnx import TensorProto, helper, save_model
weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[{ROWS}, {COLUMNS}])
weights.data_location = TensorProto.EXTERNAL
weights.external_data.add(key="location", value="weights.bin")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], "large",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, {ROWS}])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, {COLUMNS}])], initializer=[weights],
)
save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), sys.argv[1])
"""


@pytest.fixture
def large_model() -> Iterator[Path]:
    """Make a folder of an ONNX file and 3 GB of weights beside it, sparse on this disk."""
    folder = Path(tempfile.mkdtemp(prefix="farm-large-model-"))
    python = ROOT / ".envs/builder/bin/python"
    subprocess.run([python, "-c", MAKE_MODEL, folder / "model.onnx"], env=PREPARED, check=True, timeout=60)
    with (folder / "weights.bin").open("wb") as opened:
        opened.truncate(SIZE_BYTES)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="farm-large-"))
    folder.chmod(0o711)
    started = Stack(folder, durable=False)
    try:
        started.up()
        yield started
    finally:
        started.down()
        shutil.rmtree(folder, ignore_errors=True)


def pss_bytes(pid: int) -> int:
    """Read a process's proportional share of memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


@contextmanager
def peaks(pids: dict[str, int]) -> Iterator[dict[str, int]]:
    """Sample processes while the block runs; their highest PSS above that at the start, by name."""
    before = {name: pss_bytes(pid) for name, pid in pids.items()}
    highest, over = dict.fromkeys(pids, 0), threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            for name, pid in pids.items():
                highest[name] = max(highest[name], pss_bytes(pid) - before[name])

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield highest
    finally:
        over.set()
        sampling.join()


@pytest.mark.slow
@pytest.mark.toolchain
@pytest.mark.timeout(900)
def test_three_gigabytes_pass_through_little_memory(stack: Stack, large_model: Path) -> None:
    info = stack.info()
    assert info is not None

    with Client(info.api, info.token) as client, peaks({part: stack.pid(part) for part in ("api", "worker")}) as extra:
        view = client.inspect(large_model)

    print({part: f"{peak / 2**20:.0f} MiB extra" for part, peak in extra.items()})
    assert view.facts is not None
    assert view.facts["size_bytes"] > SIZE_BYTES
    assert all(peak < EXTRA_LIMIT_BYTES for peak in extra.values()), extra
