"""What other tools say of their times is read in the unit they say it in."""

from __future__ import annotations

import pytest

from benchmarks.peers import _OPENVINO, microseconds


@pytest.mark.parametrize(
    ("said", "time_us"),
    [
        ("[ INFO ]    Median:        463.40 us", 463.4),
        ("[ INFO ]    Median:        2.31 ms\n[ INFO ]    Average:       2.40 ms", 2310.0),
        ("Median: 1.5 s", 1.5e6),
    ],
)
def test_a_median_is_read_with_its_unit(said: str, time_us: float) -> None:
    assert microseconds(_OPENVINO, said) == pytest.approx(time_us)


def test_a_tool_without_a_median_is_repeated() -> None:
    with pytest.raises(LookupError, match="First inference took"):
        microseconds(_OPENVINO, "First inference took 2.01 ms")
