"""The smallest entry: what a run costs by itself."""

from __future__ import annotations

from pathlib import Path


def main(work: Path) -> None:
    """Do nothing."""
