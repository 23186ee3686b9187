"""What a child told, held against what can be stored and what its kind must give."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from farm.domain.errors import ArtifactBroken
from farm.domain.stage import Kind
from farm.domain.told import DEEPEST, missing_output, unstorable, unusable_fact


def check_storable(told: Any, stage: str) -> None:
    """Refuse what PostgreSQL's jsonb can't hold: NUL, lone surrogates, numbers that are not finite, endless nesting.

    Raises:
        ArtifactBroken: naming what was found.
    """
    if why := unstorable(told):
        raise ArtifactBroken(f"Stage {stage} told {why}, which can't be stored.")


def storable(value: Any, depth: int = 0) -> Any:
    """Return a JSON value without what `check_storable` refuses: for failures, which must arrive in any case."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (Mapping, list, tuple)) and depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item, depth + 1) for item in value]
    return value


def check_outputs(kind: Kind, names: Collection[str], stage: str) -> None:
    """See that the output which the next steps need is there.

    Raises:
        ArtifactBroken: it is not.
    """
    if needed := missing_output(kind, names):
        raise ArtifactBroken(f"Stage {stage} succeeded without its output {needed!r}.")


def check_facts(kind: Kind, facts: Mapping[str, Any], stage: str) -> None:
    """See that the facts which verdicts rest on have their shape.

    Raises:
        ArtifactBroken: naming the fact.
    """
    if wrong := unusable_fact(kind, facts):
        raise ArtifactBroken(f"Stage {stage} gave no usable {wrong}.")
