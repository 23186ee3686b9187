"""Cut ONNX models for the search of a small one that fails like them; workers/minimizing.py drives it.

Tool: onnx 1.23.2 (shape inference with data propagation, the inliner, the reference evaluator).
Source: https://onnx.ai/onnx/api/shape_inference.html; the search is described in farm/domain/shrinking.py.

One run does one of two things, each in its own sandboxed child:
- given "model", it writes the skeleton: the graph with every shape inferred, neutral names, no weights, no free text;
- given "skeleton" and the numbers of the nodes to keep, it writes a model of these alone, with random weights.
Limits: tensors whose shape or type is unknown can't become inputs, so no cut goes through them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.codec import decode
from farm.domain.facts import Format, TensorSpec
from farm.domain.signature import without_names
from farm.domain.stage import Kind, Options, StageInput, StageOutput, stage
from workers.stages.minimize.candidate import cut
from workers.stages.minimize.random_tensors import write_samples
from workers.stages.minimize.skeleton import make_skeleton

STAGE = "minimize-onnx"


@dataclass(frozen=True, slots=True)
class MinimizeOptions(Options):
    """What failed, and what the search may cost.

    Attributes:
        stage: the stage that failed.
        options: its options, encoded.
        profile: the profile fields it read.
        budget_s: seconds for the whole search.
        tries: cuts that are tested at most.
        seed: of the random weights.
        part: numbers of the nodes to keep; used by the worker for single runs.
        samples: whether the failing stage read samples, so that some are made beside the candidate; likewise.
        message: what the failure said, to be given back without the model's names; likewise.
    """

    stage: str = ""
    options: Mapping[str, Any] | None = None
    profile: Mapping[str, Any] | None = None
    budget_s: float = 120.0
    tries: int = 400
    seed: int = 20_260
    part: tuple[int, ...] | None = None
    samples: bool = False
    message: str = ""


@stage(
    name=STAGE,
    version="2",
    kind=Kind.MINIMIZE,
    environment="builder",
    source=Format.ONNX,
    options=MinimizeOptions,
    tools=("onnx", "numpy"),
    preload=("onnx", "numpy"),
)
def run(given: StageInput) -> StageOutput:
    """Write the skeleton of files["model"], or the candidate that `part` of files["skeleton"] makes.

    Returns: "skeleton" with facts nodes, original_nodes, operators (one per node) and message; or "model" with facts
    inputs and outputs, and "samples" where wanted; or only facts["uncut"], the reason why this cut is impossible.

    Raises:
        MissingFile: external data that the graph's structure needs was not submitted.
        UnsafeModel: it lies outside the model's folder.
    """
    options: MinimizeOptions = given.options
    if options.part is None:
        return _skeleton(given, options)
    made = cut(given.files["skeleton"], options.part, options.seed, given.work / "model.onnx")
    if isinstance(made, str):
        return StageOutput(facts={"uncut": made})
    files = {"model": given.work / "model.onnx"}
    if options.samples:
        files["samples"] = write_samples(made.inputs, options.seed, given.work / "samples.npz")
    return StageOutput(
        files=files,
        facts={"inputs": made.inputs, "outputs": made.outputs},
    )


def _skeleton(given: StageInput, options: MinimizeOptions) -> StageOutput:
    path = given.work / "skeleton.onnx"
    made = make_skeleton(given.files["model"], _input_specs(given.contract, options.options or {}), options.seed, path)
    return StageOutput(
        files={"skeleton": path},
        facts={
            "nodes": len(made.operators),
            "original_nodes": made.original_nodes,
            "operators": made.operators,
            "message": without_names(options.message, made.names),
        },
    )


def _input_specs(contract: Contract | None, options: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Return the inputs of the model as the failing stage knew them."""
    if contract is not None:
        return tuple(binding.artifact for binding in contract.inputs)
    return tuple(decode(TensorSpec, spec) for spec in options.get("input_specs", ()))
