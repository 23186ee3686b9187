"""Name the layers of a quantized model that depart most from the float model it was made from.

One stage per format, named trace-<format>; all run on a build host, on one sample. What is compared, and how a tensor
finds its counterpart, is told in the module of each format: workers/stages/trace/*_pair.py.
Formula: SQNR per tensor as in workers/stages/compare/numerics.py, of the float value against the quantized one, each
computed by its own model from the same input: so a layer's figure holds the errors of all layers before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Binding
from farm.domain.errors import ArtifactBroken, FarmError
from farm.domain.facts import Format, TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, always, stage
from workers.runtimes import runtime_of
from workers.runtimes.binding import to_artifact
from workers.stages.compare.numerics import OutputError
from workers.stages.compare.run_artifact import declared_contract, reference_samples
from workers.stages.npz import NpzReader
from workers.stages.tool_calls import FOREIGN
from workers.stages.trace.onnx_pair import SHOWN, OnnxPair
from workers.stages.trace.openvino_pair import OpenVinoPair
from workers.stages.trace.pairs import Opener, Pair, Tap
from workers.stages.trace.tflite_pair import TflitePair
from workers.stages.wording import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUP = 64
"""Tensors that are read in one run: what bounds the memory."""
MOST = 128
"""Tensors that are compared at most."""
MARGIN = 0.05
"""What rounding may take off the ends of a tensor's range, as a share of it, before its values count as clipped."""
LONGEST_S = 10.0
"""After so long no further group is begun."""


def run_trace(source: Format, open_pair: Opener, given: StageInput) -> StageOutput:
    """Compare the inner tensors of both models on the first sample.

    Args:
        source: the format of both files.
        open_pair: opens them.
        given: files["model"] (quantized, whose contract it is), files["float"] and files["samples"].
    Returns: facts {"layers": a list in the order of execution of {"tensor", "operator", "sqnr_db", "cosine",
        "max_abs_error", "max_abs_value", "clipped_share"}, or None where nothing could be matched; "note": what was
        left out, or None}.
    Raises: ArtifactBroken when a file does not load or run with its inner tensors shown.
    """
    contract = declared_contract(given)
    with NpzReader(given.files["samples"], what="reference") as reader:
        sample, _ = next(reference_samples(reader, contract))
    with _told(source):
        pair = open_pair(given.files["float"], given.files["model"], given.work)
        chosen = spread(pair.taps)
        before = to_artifact(sample, float_inputs(contract.inputs, pair.inputs))
        layers = list(compared_layers(pair, chosen, before, to_artifact(sample, contract.inputs)))
    return StageOutput(facts={"layers": layers or None, "note": left_out(pair, chosen, len(layers))})


def float_inputs(inputs: Sequence[Binding], found: Sequence[TensorSpec]) -> tuple[Binding, ...]:
    """Bind the source's tensors to the float model's inputs as the quantized one has them, by name or by order."""
    by_name = {spec.name: spec for spec in found}
    at_place = dict(zip((binding.artifact.name for binding in inputs), found, strict=False))
    bound = []
    for binding in inputs:
        spec = by_name.get(binding.artifact.name) or at_place.get(binding.artifact.name, binding.source)
        bound.append(replace(binding, artifact=replace(spec, shape=binding.artifact.shape)))
    return tuple(bound)


def compared_layers(
    pair: Pair, chosen: Sequence[Tap], before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]
) -> Iterator[dict[str, Any]]:
    """Tell every chosen tensor that is real, finite and of one shape in both models."""
    import numpy as np

    started = time.monotonic()
    for first in range(0, len(chosen), GROUP):
        if time.monotonic() - started > LONGEST_S:
            return
        for tap, expected, actual in pair.values(chosen[first : first + GROUP], dict(before), dict(after)):
            if expected.dtype.kind != "f" or actual.dtype.kind != "f" or expected.shape != actual.shape:
                continue
            if expected.size and np.isfinite(expected).all() and np.isfinite(actual).all():
                error = OutputError()
                error.add(expected, actual)
                yield {
                    "tensor": tap.tensor,
                    "operator": tap.operator,
                    "sqnr_db": round(error.sqnr_db, 2),
                    "cosine": round(error.cosine, 6),
                    "max_abs_error": float(f"{error.max_abs_error:.4g}"),
                    "max_abs_value": float(f"{error.peak:.4g}"),
                    "clipped_share": round(clipped_share(expected, actual), 4),
                }


def clipped_share(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """Tell what share of the float values lies beyond all quantized ones by more than MARGIN of their span."""
    import numpy as np

    low, high = float(actual.min()), float(actual.max())
    margin = MARGIN * (high - low)
    return float(np.mean((expected < low - margin) | (expected > high + margin)))


def spread(taps: Sequence[Tap]) -> Sequence[Tap]:
    """Choose at most MOST of them, evenly, with the first and the last."""
    if len(taps) <= MOST:
        return taps
    return [taps[round(at * (len(taps) - 1) / (MOST - 1))] for at in range(MOST)]


def left_out(pair: Pair, chosen: Sequence[Tap], compared: int) -> str | None:
    """Say what is not among the layers."""
    if not compared:
        return (
            f"none of the float model's {pair.total} inner tensors has a counterpart in the quantized file, "
            "by name or by the order of operators."
        )
    reasons = []
    if len(chosen) < len(pair.taps):
        reasons.append(f"at most {MOST} are compared, spread evenly")
    if compared < len(chosen):
        reasons.append(
            f"{len(chosen) - compared} are no real numbers, differ in shape, or came after {LONGEST_S:.0f} s"
        )
    if len(pair.taps) < pair.total:
        reasons.append("the others are fused into their neighbours or have no counterpart")
    return f"{compared} of {pair.total} tensors are compared: {'; '.join(reasons)}." if reasons else None


@contextmanager
def _told(source: Format) -> Iterator[None]:
    """Turn what the libraries raise into a failure that says what was being done."""
    refusals = runtime_of(source).refusals()
    try:
        yield
    except FarmError:
        raise
    except (*refusals, *FOREIGN) as exc:
        said = plain(f"{type(exc).__name__}: {exc}", limit=500)
        raise ArtifactBroken(f"The inner tensors of the {source} files can't be read: {said}") from exc


def _register(source: Format, open_pair: Opener, *, preload: tuple[str, ...], **declared: Any) -> None:
    stage(
        name=f"trace-{source}",
        version="3",
        kind=Kind.TRACE,
        source=source,
        inputs=("float", "samples"),
        preload=("numpy", *preload),
        timeout_s=300.0,
        **declared,
    )(partial(run_trace, source, open_pair))


_register(
    Format.ONNX,
    OnnxPair,
    tools=("onnx", "onnxruntime"),
    preload=("onnx", "onnxruntime", "onnxruntime.quantization.shape_inference"),
    environment="builder",
    check=SHOWN,
)
_register(
    Format.TFLITE,
    TflitePair,
    tools=("ai-edge-litert",),
    preload=("ai_edge_litert.interpreter",),
    environment="litert",
    check=always,
)
_register(
    Format.OPENVINO_IR, OpenVinoPair, tools=("openvino",), preload=("openvino",), environment="openvino", check=always
)
