"""Import this to have all stages loaded and the harness ready, as a zygote does before it forks."""

from __future__ import annotations

from workers.stages import harness, load_specs

__all__ = ["harness"]

load_specs()
