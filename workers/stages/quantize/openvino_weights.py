"""Weights of an OpenVINO IR stored in fewer bits, activations untouched: what those recipes share.

Tool: nncf.compress_weights, nncf 3.4.0 on openvino 2026.4.1, without data.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/weight-compression.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import StageInput, StageOutput, Verdict
from workers.runtimes.files import entry_file
from workers.runtimes.openvino import SUFFIXES
from workers.stages.openvino_models import converter_errors, write
from workers.stages.quantize.selection import Candidate, Samples, choose
from workers.stages.samples import SEED, seeded_probe
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract

if TYPE_CHECKING:
    import openvino

PROBES = 4
_PRODUCT = re.compile(r"mat_?mul|gemm|(^|[.:])linear|dense|fully_?connected|addmm|[.:]b?mm\b|einsum|attention", re.I)
"""How formats name matrix products."""


def needs_products(facts: ModelFacts, recipe: str) -> Verdict:
    """Refuse a model without matrix products: the plugin would only unpack its weights again."""
    if not facts.operators or any(_PRODUCT.search(name) for name in facts.operators):
        return Verdict.yes()
    return Verdict.no(
        f"Recipe {recipe} of OpenVINO works on matrix products, and the model has none among "
        f"{', '.join(sorted(facts.operators)[:8])}. Take int8-static or float16."
    )


def compress(model: Path, arguments: Mapping[str, Any]) -> openvino.Model:
    """Return an IR with its weights compressed; `arguments` are nncf.compress_weights's, enums by their values."""
    import nncf
    import openvino

    compressed: openvino.Model = nncf.compress_weights(openvino.Core().read_model(model), **_typed(arguments))
    return compressed


def _typed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

    typed = dict(arguments) | {"mode": nncf.CompressWeightsMode(arguments["mode"])}
    if "group_size" in arguments:
        typed["advanced_parameters"] = AdvancedCompressionParameters(
            group_size_fallback_mode=GroupSizeFallbackMode.ADJUST
        )
    return typed


def run_compression(given: StageInput, ways: Sequence[Mapping[str, Any]]) -> StageOutput:
    """Write model.xml and model.bin by the first way that is near enough, else by the nearest.

    Returns: facts["sqnr_db"] is the worst output's against the float IR, on seeded inputs in [0, 1).
    Raises: ConversionFailed when no way gave a model that loads, runs and stays finite.
    """
    model = entry_file(given.files["model"], SUFFIXES)
    named = {", ".join(f"{key} {value}" for key, value in way.items()): way for way in ways}

    def candidate(name: str) -> Candidate:
        def make(path: Path) -> None:
            with tool_call("nncf", *converter_errors()):
                write(compress(model, named[name]), path)

        return Candidate(name, make)

    chosen = choose(given, Format.OPENVINO_IR, probes(given), [candidate(name) for name in named])
    return StageOutput(
        files={"model": chosen.path},
        facts={"sqnr_db": round(chosen.sqnr_db, 2), "quantization": chosen.name, "tried": chosen.tried},
        contract=chosen.contract,
        reproduce=python_command(
            "import openvino",
            "from pathlib import Path",
            "from workers.stages.quantize.openvino_weights import compress",
            f"openvino.save_model(compress(Path('model.xml'), {dict(named[chosen.name])!r}), 'compressed.xml', "
            "compress_to_fp16=False)",
        ),
    )


def probes(given: StageInput) -> Samples:
    """Make seeded inputs to judge by, where no data is needed."""
    specs = tuple(binding.artifact for binding in given_contract(given).inputs)
    return Samples((), tuple(seeded_probe(specs, seed=SEED + at, positive=True) for at in range(PROBES)))
