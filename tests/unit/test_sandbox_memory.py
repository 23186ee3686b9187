"""When memory is short: in the machine, or in the container around the worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.sandbox.memory import is_short


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("available", "short"), [(200, False), (150, False), (149, True), (0, True)])
def test_a_machine_with_less_than_15_percent(tmp_path: Path, available: int, short: bool) -> None:
    told = f"MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: {available} kB\nHugePages_Total: 0\n"

    assert is_short(tree(tmp_path, {"proc/meminfo": told})) is short


@pytest.mark.parametrize(
    ("limit", "droppable", "short"), [("max", 0, False), ("1000", 0, True), ("1000", 500, False), ("2000", 0, False)]
)
def test_a_containers_limit_counts_without_files_that_can_be_dropped(
    tmp_path: Path, limit: str, droppable: int, short: bool
) -> None:
    group = {
        "memory.max": f"{limit}\n",
        "memory.current": "900\n",
        "memory.stat": f"anon 1\ninactive_file {droppable}\n",
    }

    assert is_short(tree(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in group.items()})) is short


def test_a_machine_that_tells_nothing_is_not_short(tmp_path: Path) -> None:
    assert not is_short(tmp_path)
