"""Stages, found by walking this package and the entry-point group `edge_model_farm.stages`; no hand-kept list."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from farm.domain.stage import REGISTRY, StageSpec

ENTRY_POINTS = "edge_model_farm.stages"
LOADED = "workers.stages.loaded"
ANYWAY = frozenset({"numpy"})
"""What every toolchain imports by itself."""


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
    """Name what a stage's zygote imports before any fork: all specs, so that no child looks for them, and its tools.

    A zygote that imports more serves a stage as well, and each one less is seconds and memory saved: stages share the
    smallest zygote of their environment that imports all of their tools and is itself needed.
    """
    if spec.fresh:
        return ()
    return (LOADED, *_zygotes().get((spec.environment, spec.preload), spec.preload))


@cache
def _zygotes() -> dict[tuple[str, tuple[str, ...]], tuple[str, ...]]:
    """Map what stages declare to what is imported for them; stages that start programs keep their own."""
    shared = (spec for spec in load_specs().values() if spec.preload and not spec.fresh and not spec.spawns)
    declared = sorted({(spec.environment, spec.preload) for spec in shared})
    return {
        (environment, modules): min(
            (others for where, others in declared if where == environment and set(modules) - ANYWAY <= set(others)),
            key=lambda others: (_is_part(environment, others, declared), len(others), others),
        )
        for environment, modules in declared
    }


def _is_part(environment: str, modules: tuple[str, ...], declared: list[tuple[str, tuple[str, ...]]]) -> bool:
    """Tell whether another zygote imports all that this one does, and more."""
    wanted = set(modules) - ANYWAY
    return any(where == environment and wanted < set(others) - ANYWAY for where, others in declared)
