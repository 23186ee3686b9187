"""Inspect torch weights with the Python file that builds their module.

Tested with torch 2.13.0. Source: PyTorch, torch.load(weights_only=True) and torch.nn.Module.load_state_dict.
Limits: what the file does not declare of an input (INPUTS, example_inputs) is the submitter's to add with --input.
"""

from __future__ import annotations

from dataclasses import dataclass

from farm.domain.codec import encode
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.stage import Kind, Options, StageInput, StageOutput, stage
from workers.runtimes.files import tree_size_bytes
from workers.runtimes.torch_state_dict import Built, load_built
from workers.runtimes.torch_state_dict_builder import BUILD_LIMIT_S
from workers.stages.inspect.module_outputs import leaf_modules, observed_outputs


@dataclass(frozen=True, slots=True)
class InspectOptions(Options):
    """How many seconds the submitter's file may take to build its module."""

    builder_limit_s: float = BUILD_LIMIT_S


@stage(
    name="inspect-torch-state-dict",
    version="2",
    kind=Kind.INSPECT,
    source=Format.TORCH_STATE_DICT,
    environment="builder",
    options=InspectOptions,
    tools=("torch", "safetensors"),
    preload=("torch", "safetensors.torch"),
    timeout_s=300.0,
)
def run(given: StageInput) -> StageOutput:
    """Build the module, load the weights into it, and run it once where the file says its inputs.

    Returns: facts, the JSON of ModelFacts; operators are the module's leaf classes, `extra` tells how it was built.
    Raises: MissingFile without a builder; BadRequest for what the builder does or for weights that do not fit;
        UnsafeModel, UnknownFormat, CorruptModel.
    """
    path = given.files["model"]
    built = load_built(path, limit_s=given.options.builder_limit_s)
    session = built.session
    facts = ModelFacts(
        format=Format.TORCH_STATE_DICT,
        inputs=session.inputs,
        outputs=_outputs(built),
        operators=leaf_modules(session.module),
        parameters=sum(parameter.numel() for parameter in session.module.parameters()),
        size_bytes=tree_size_bytes(path),
        producer="torch",
        extra={
            "builder": built.builder.file,
            "entry": built.builder.entry,
            "weights": built.file,
            "checkpoint_key": built.weights.key,
            "dropped_prefix": built.weights.prefix,
            "ranges": built.ranges,
        },
    )
    return StageOutput(facts=encode(facts))


def _outputs(built: Built) -> tuple[TensorSpec, ...]:
    """Run the module where a batch is all that its inputs leave open."""
    inputs = built.session.inputs
    leading = {spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)}
    small, larger = ({str(name): size for name in leading} for size in (1, 3))
    return observed_outputs(built.session.run, inputs, small=small, larger=larger, ranges=built.ranges)
