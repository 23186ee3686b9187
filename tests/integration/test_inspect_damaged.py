"""Damaged copies of good models: whatever the parsers throw, the file is blamed, never the farm or a tool."""

import random
from pathlib import Path

import pytest

from tests.stage_fixtures import Answer, Call, models, run_calls

pytestmark = pytest.mark.toolchain

FILES = {
    "inspect-torch-exported-program": "good.pt2",
    "inspect-torchscript": "good.pt",
    "inspect-onnx": "good.onnx",
    "inspect-keras": "good.keras",
    "inspect-keras-h5": "good.h5",
}
COPIES = 25
WORDS = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Overwrite bytes and words, or cut the end off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(len(changed))
        kind = rng.randrange(3)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            changed[at : at + 4] = rng.choice(WORDS)
        else:
            del changed[max(at, 1) :]
    return bytes(changed)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder = tmp_path_factory.mktemp("damaged")
    calls = {}
    for stage, name in FILES.items():
        rng, data = random.Random(name), (models() / name).read_bytes()
        for copy in range(COPIES):
            file = folder / f"{copy}-{name}"
            file.write_bytes(damaged(data, rng))
            calls[f"{stage} {copy}"] = Call(stage, {"model": Path(file)})
    return run_calls("builder", calls, tmp_path_factory.mktemp("answers"))


@pytest.mark.parametrize("stage", FILES)
def test_a_damaged_file_is_the_submitters(answers: dict[str, Answer], stage: str) -> None:
    failures = [answers[f"{stage} {copy}"].result.get("failure") for copy in range(COPIES)]
    refused = [failure for failure in failures if failure]
    assert len(refused) > COPIES // 3
    assert [failure for failure in refused if failure["who_must_act"] != "submitter"] == []
    assert all(failure["message"] and failure["remedy"] for failure in refused)
