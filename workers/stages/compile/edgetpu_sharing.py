"""What several models were compiled to together: that they share the memory, and what was said of each of them.

Source: Coral documentation, Edge TPU Compiler, Co-compiling multiple models: models that share the memory are compiled
with one parameter-caching token. google-coral/test_data, cocompilation/: both files of every pair hold the same token,
and each model compiled by itself one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.domain.errors import ConversionFailed
from workers.edgetpu.compiled import Compiled
from workers.edgetpu.compiler import PROGRAM, Compilation, Compiler
from workers.stages.compile.edgetpu_files import compiled_facts


def need_shared(parts: Mapping[str, Compiled], compiler: Compiler) -> None:
    """See that files evict each other's parameters from no device's memory: those that cache any share one token.

    Args:
        parts: by the models' names.
        compiler: who made them.

    Raises:
        ConversionFailed: they have several tokens.
    """
    tokens = {name: part.caching_tokens for name, part in parts.items() if part.caching_tokens}
    if len({token for found in tokens.values() for token in found}) <= 1:
        return
    told = "; ".join(f"{name}: {', '.join(f'0x{token:016x}' for token in sorted(tokens[name]))}" for name in tokens)
    raise ConversionFailed(
        f"{PROGRAM} {compiler.version} compiled {len(parts)} models together, but their files do not share the memory: "
        f"a device with one caching token in its memory evicts what another one cached ({told}).",
        remedy="Each model is compiled by itself instead. Try another version of the compiler to have them share.",
        tool=PROGRAM,
        version=compiler.version,
    )


def facts_of_each(compiler: Compiler, made: Compilation, parts: Mapping[str, Compiled]) -> dict[str, Any]:
    """Tell what there is to say of each model, by its role, whose name its file had when it was compiled."""
    report = made.as_facts()
    told = {}
    for role, part in parts.items():
        models = [model for model in report["models"] if Path(model["input_name"]).stem == role]
        told[role] = {
            **compiled_facts([part]),
            "compiler": compiler.as_facts(),
            "report": {**report, "models": models},
            "operators": [row for model in models for row in model["operators"]],
        }
    return told
