"""The lines of a log that tell what went wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.knowledge import telling_lines

LOG = """\x1b[1;31m2026-11-24 08:40:21.692420244 [E:onnxruntime:, executor.cc:677] Exotic error in node 7\x1b[m
flatbuffer export [3/3] write:  67%|██████▋   | 2/3 [00:00<00:00, 215.16it/s]\rexport: 100%|██████████| 3/3
Traceback (most recent call last):
  File "/srv/farm/.envs/builder/lib/python3.11/site-packages/tool/inner.py", line 12, in convert
    raise ValueError("no")
    ~~~~~^^^^^^
/srv/farm/.envs/builder/lib/python3.11/copyreg.py:105: FutureWarning: this is deprecated
Exotic error in /srv/farm/run-1/out/model.onnx
Step 1 failed with code 3
Step 2 failed with code 4
all is well
"""


def test_the_lines_that_tell_are_kept_and_nothing_else() -> None:
    assert telling_lines(LOG) == [
        "[E:onnxruntime:, executor.cc:677] Exotic error in node 7",
        'raise ValueError("no")',
        "Exotic error in model.onnx",
        "Step 1 failed with code 3",
    ]


def test_without_any_that_tells_the_last_lines_are_given() -> None:
    assert telling_lines("one\ntwo\nthree", lines=2) == ["two", "three"]


def test_nothing_gives_nothing() -> None:
    assert telling_lines("") == []


@given(st.text(max_size=2000))
def test_any_text_gives_few_short_clean_lines(text: str) -> None:
    lines = telling_lines(text)

    assert len(lines) <= 6
    assert all(0 < len(line) <= 300 and "\x1b" not in line and "\n" not in line for line in lines)
    assert telling_lines("\n".join(lines)) == lines or any(
        line.startswith(("W", "File", "I", "E", "F")) for line in lines
    )
