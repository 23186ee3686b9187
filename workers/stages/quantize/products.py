"""Tell from inspected facts whether a model has matrix products, which some recipes work on alone."""

from __future__ import annotations

import re

from farm.domain.facts import ModelFacts
from farm.domain.stage import Verdict

_PRODUCT = re.compile(r"mat_?mul|gemm|(^|[.:])linear|dense|fully_?connected|addmm|[.:]b?mm\b|einsum|attention", re.I)
"""How formats name matrix products."""
_RECURRENT = re.compile(r"lstm", re.I)


def needs_products(facts: ModelFacts, recipe: str, tool: str, *, or_recurrent: bool = False) -> Verdict:
    """Refuse a model without matrix products (or, with `or_recurrent`, recurrent layers): nothing would change."""
    known = [_PRODUCT, *([_RECURRENT] if or_recurrent else [])]
    if not facts.operators or any(pattern.search(name) for name in facts.operators for pattern in known):
        return Verdict.yes()
    return Verdict.no(
        f"Recipe {recipe} of {tool} works on matrix products, and the model has none among "
        f"{', '.join(sorted(facts.operators)[:8])}. Take int8-static or float16."
    )
