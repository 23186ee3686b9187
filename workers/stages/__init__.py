"""Stages, found by walking this package and the entry-point group `edge_model_farm.stages`; no hand-kept list."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from farm.domain.stage import REGISTRY, StageSpec

ENTRY_POINTS = "edge_model_farm.stages"
LOADED = "workers.stages.loaded"


@cache
def load_specs() -> dict[str, StageSpec]:
    """Import every stage module, which registers its stages; no toolchain is imported by that.

    Raises:
        TypeError: two stages share a name.
    """
    for module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        if module.name == LOADED:
            continue
        importlib.import_module(module.name)
    for point in entry_points(group=ENTRY_POINTS):
        point.load()
    return dict(sorted(REGISTRY.items()))


def preload_of(spec: StageSpec) -> tuple[str, ...]:
    """Name what a stage's zygote imports before any fork: all specs, so that no child looks for them, and its tools."""
    return () if spec.fresh else (LOADED, *spec.preload)
