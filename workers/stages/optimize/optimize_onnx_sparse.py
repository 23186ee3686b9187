"""Set the smallest weights of an ONNX model to zero, half of each layer or two of every four, without retraining.

Tools: NumPy on the weights that onnx 1.23.2 reads, after workers/stages/quantize/onnx_preparation.py.
Document: Han et al. 2015, https://arxiv.org/abs/1506.02626 (by magnitude); Mishra et al. 2021,
https://arxiv.org/abs/2104.08378 (2:4).
Formula, sparse-unstructured: w = 0 where |w| is under the median of its layer.
Formula, sparse-2-4: w = 0 for the two smallest |w| of each four along the input channels.
Limits: ONNX Runtime and LiteRT compute zeros like other values, so no speed is gained; only the compressed file is
smaller, as `compressed_share` tells. Nothing is recovered by training: the loss is what `sqnr_db` says.
Biases, embeddings and depthwise convolutions keep their values.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import ConversionFailed
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.quantize.onnx_preparation import prepare, prepare_lines
from workers.stages.quantize.selection import Candidate, Judge, choose, seeded_samples
from workers.stages.tool_calls import python_command, tool_call

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

INPUT_AXIS = {"Conv": 1, "ConvTranspose": 0, "MatMul": 0, "Gemm": 0}
"""Where a weight's input channels lie; a Gemm with transB has them in axis 1."""
GROUP, ZEROS = 4, 2
PRELOAD = ("onnx", "onnxruntime", "onnxruntime.quantization.shape_inference")
Prune = Callable[["NDArray[Any]", int], "NDArray[Any]"]


def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    known = {name.casefold() for name in facts.operators}
    if facts.format is Format.ONNX and known and known.isdisjoint(name.casefold() for name in INPUT_AXIS):
        return Verdict.no(
            "The model has no convolution or matrix product whose weights could be set to zero; take float32."
        )
    return Verdict.yes()


def prune_half(weight: NDArray[Any], axis: int) -> NDArray[Any]:
    """Zero what is under the median of the layer by magnitude; any shape."""
    import numpy as np

    size = np.abs(weight)
    pruned: NDArray[Any] = np.where(size < np.median(size), 0, weight).astype(weight.dtype)
    return pruned


def prune_two_of_four(weight: NDArray[Any], axis: int) -> NDArray[Any]:
    """Zero the two smallest of each four along `axis`; what is over at the end stays."""
    import numpy as np

    moved = np.moveaxis(weight, axis, -1).copy()
    whole = moved.shape[-1] - moved.shape[-1] % GROUP
    groups = moved[..., :whole].reshape(*moved.shape[:-1], -1, GROUP)
    smallest = np.argsort(np.abs(groups), axis=-1, kind="stable")[..., :ZEROS]
    np.put_along_axis(groups, smallest, 0, axis=-1)
    moved[..., :whole] = groups.reshape(*moved.shape[:-1], whole)
    return np.moveaxis(moved, -1, axis)


def sparse(model: onnx.ModelProto, prune: Prune) -> onnx.ModelProto:
    """Prune every weight of a convolution or matrix product in place."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, axis in _weights(model, tensors):
        weight = numpy_helper.to_array(tensors[name])
        tensors[name].CopyFrom(numpy_helper.from_array(prune(weight, axis), name))
    return model


def _weights(model: onnx.ModelProto, tensors: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield each weight once, with the axis of its input channels."""
    seen = set()
    for node in model.graph.node:
        name = node.input[1] if node.op_type in INPUT_AXIS and len(node.input) > 1 else ""
        if name not in tensors or name in seen or len(tensors[name].dims) < 2:
            continue
        if node.op_type == "Conv" and tensors[name].dims[1] == 1:
            continue
        seen.add(name)
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        yield name, 1 if transposed else INPUT_AXIS[node.op_type]


def run_sparse(given: StageInput, prune: Prune) -> StageOutput:
    """Write model.onnx; facts tell the share of zeros, and the size of the compressed file against the float one's.

    Raises:
        ConversionFailed: no weight could be set to zero, or the file does not load, run and stay finite.
    """
    import onnx

    prepared = prepare(given)
    zeros = share_of_zeros(sparse(onnx.load(prepared), prune))
    if zeros == share_of_zeros(onnx.load(prepared)):
        raise ConversionFailed(
            "No weight of this model could be set to zero: none is of a convolution or matrix product.",
            remedy="Take float32 or float16.",
        )

    def write(path: Path) -> None:
        with tool_call("onnx"):
            onnx.save(sparse(onnx.load(prepared), prune), path)

    judge = Judge(given, Format.ONNX, seeded_samples(given).selection)
    chosen = choose(judge, [Candidate(prune.__name__, write)])
    repeated = python_command(
        "import onnx",
        *prepare_lines(given),
        f"from workers.stages.optimize.optimize_onnx_sparse import {prune.__name__}, sparse",
        f"onnx.save(sparse(onnx.load('prepared.onnx'), {prune.__name__}), 'sparse.onnx')",
    )
    share = _compressed(chosen.path) / _compressed(prepared)
    return chosen.output(repeated, zeros_share=round(zeros, 4), compressed_share=round(share, 4))


def share_of_zeros(model: onnx.ModelProto) -> float:
    """Return how many of the weights in convolutions and matrix products are zero, from 0 to 1."""
    import numpy as np
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    arrays = [numpy_helper.to_array(tensors[name]) for name, _ in _weights(model, tensors)]
    values = sum(array.size for array in arrays)
    return sum(array.size - int(np.count_nonzero(array)) for array in arrays) / values if values else 0.0


def _compressed(path: Path) -> int:
    return len(zlib.compress(path.read_bytes()))


@stage(
    name="optimize-onnx-sparse-unstructured",
    version="2",
    kind=Kind.OPTIMIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    recipe="sparse-unstructured",
    tools=("onnx", "onnxruntime"),
    preload=PRELOAD,
)
def prune_unstructured(given: StageInput) -> StageOutput:
    return run_sparse(given, prune_half)


@stage(
    name="optimize-onnx-sparse-2-4",
    version="2",
    kind=Kind.OPTIMIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    recipe="sparse-2-4",
    tools=("onnx", "onnxruntime"),
    preload=PRELOAD,
)
def prune_two_four(given: StageInput) -> StageOutput:
    return run_sparse(given, prune_two_of_four)
