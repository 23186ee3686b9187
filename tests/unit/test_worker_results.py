"""What a child left behind: links, pipes, missing files, wrong facts, and logs that are no logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.results import LOG_LIMIT_BYTES, check_plain, join_logs


def test_a_log_that_is_a_link_tells_nothing_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the host's own")
    (tmp_path / "work" / "run-0").mkdir(parents=True)
    (tmp_path / "work" / "run-1").mkdir()
    (tmp_path / "work" / "run-0" / "log.txt").symlink_to(tmp_path / "secret")
    (tmp_path / "work" / "run-1" / "log.txt").write_text("said by run 1")

    join_logs(tmp_path / "work", tmp_path / "whole")

    text = (tmp_path / "whole").read_text()
    assert "the host's own" not in text
    assert "The log of run-0 can't be read" in text
    assert "said by run 1" in text


@pytest.mark.timeout(20)
def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run-0").mkdir()
    os.mkfifo(tmp_path / "run-0" / "log.txt")

    join_logs(tmp_path, tmp_path / "whole")

    assert "run-0 can't be read" in (tmp_path / "whole").read_text()


def test_a_log_without_end_is_cut_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "run-0").mkdir()
    with (tmp_path / "run-0" / "log.txt").open("wb") as opened:
        opened.truncate(LOG_LIMIT_BYTES + 1)

    join_logs(tmp_path, tmp_path / "whole")

    assert LOG_LIMIT_BYTES < (tmp_path / "whole").stat().st_size < LOG_LIMIT_BYTES + 200
    assert b"Cut here" in (tmp_path / "whole").read_bytes()[-200:]


def test_an_output_behind_a_link_is_refused_when_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("the host's own")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere" / "secret")

    for path in (tmp_path / "out" / "secret", tmp_path / "model"):
        with pytest.raises(OSError, match=r"link"):
            check_plain(path)
