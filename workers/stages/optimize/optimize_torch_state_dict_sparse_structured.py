"""Remove channels of a torch module, recover by distillation on the calibration data, and export the smaller program.

Tools: torch-pruning 1.6.1, torch 2.13.0; how is told in workers/stages/optimize/channel_pruning.py.
Document: https://github.com/VainF/Torch-Pruning
Formula: per layer, the `share` of channels with the smallest L2 norm go; then minimize |student(x) − original(x)|² over
the calibration samples, no labels needed.
Limits: only modules, so weights with a builder; layers that give an output keep their channels. Batch norms keep their
statistics. Time is bounded by `budget_minutes`; the samples that select the best state do not train it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Contract
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.runtimes.torch_modules import ModuleSession
from workers.runtimes.torch_state_dict import load_built
from workers.stages.export.modules import PROGRAM_PRELOAD, STATE_DICT_LINES, save_program
from workers.stages.optimize.channel_pruning import BATCH, Recovery, distil, parameters, prune_channels
from workers.stages.quantize.selection import CalibratedOptions, Candidate, Judge, choose, split_samples
from workers.stages.samples import Feeds, seeded_probe
from workers.stages.tool_calls import python_command, tool_call

if TYPE_CHECKING:
    import torch


MOST_MINUTES = 25.0
"""A step of this kind may take half an hour, the export included."""


@dataclass(frozen=True, slots=True)
class PruningOptions(CalibratedOptions):
    """`share` of each layer's channels to remove, and the minutes that recovery may take."""

    share: float = 0.3
    budget_minutes: float = 3.0


def check(facts: ModelFacts, profile: Mapping[str, Any], options: PruningOptions) -> Verdict:
    if not 0 < options.share < 1:
        return Verdict.no(
            f"share is {options.share:g}; of each layer's channels, more than none and fewer than all can go."
        )
    if not 0 < options.budget_minutes <= MOST_MINUTES:
        return Verdict.no(
            f"budget_minutes is {options.budget_minutes:g}; recovery takes at most {MOST_MINUTES:g} minutes."
        )
    return Verdict.yes()


@stage(
    name="optimize-torch-state-dict-sparse-structured",
    version="2",
    kind=Kind.OPTIMIZE,
    environment="builder",
    source=Format.TORCH_STATE_DICT,
    target=Format.TORCH_EXPORTED_PROGRAM,
    inputs=("calibration",),
    recipe="sparse-structured",
    options=PruningOptions,
    tools=("torch-pruning", "torch", "safetensors"),
    preload=(*PROGRAM_PRELOAD, "torch_pruning", "safetensors.torch"),
    timeout_s=1800.0,
)
def run(given: StageInput) -> StageOutput:
    """Write model.pt2; facts tell the parameters before and after, and how the recovery went.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        BadRequest: the builder fails, the weights do not fit, or forward refuses the inputs.
        ConversionFailed: no channel can be removed, or the pruned module does not export.
    """
    options: PruningOptions = given.options
    built = load_built(given.files["model"])
    observed = _observed(given, built.session)
    samples = split_samples(observed)
    names, teacher = [spec.name for spec in options.input_specs], built.session.module
    example = _arguments(seeded_probe(options.input_specs, options.ranges), names)
    with tool_call("torch-pruning"):
        student = prune_channels(teacher, example, options.share)
        recovery = distil(
            student,
            teacher,
            _batches(samples.calibration, names, options.input_specs),
            _batches(samples.selection, names, options.input_specs),
            budget_s=60 * options.budget_minutes,
        )
    judge = Judge(
        observed, Format.TORCH_EXPORTED_PROGRAM, samples.selection, source_kind=Format.TORCH_STATE_DICT, known_as={}
    )
    chosen = choose(judge, [Candidate(f"{options.share:.0%} of the channels", _writer(student, options))])
    return chosen.output(_repeated(options), **_facts(teacher, student, recovery))


def _observed(given: StageInput, session: ModuleSession) -> StageInput:
    """Take the outputs as the module gives them: only a run tells what it returns."""
    specs: tuple[TensorSpec, ...] = given.options.input_specs
    found = session.run(seeded_probe(specs, given.options.ranges))
    outputs = tuple(TensorSpec(name, array.dtype.name, tuple(array.shape)) for name, array in found.items())
    return dataclasses.replace(given, contract=Contract.identity(specs, outputs))


def _arguments(feed: Feeds, names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(feed[name]) for name in names)


def _batches(
    feeds: Sequence[Feeds], names: Sequence[str], specs: tuple[TensorSpec, ...]
) -> list[tuple[torch.Tensor, ...]]:
    """Put samples together where every input's first axis holds one."""
    import torch

    rows = [_arguments(feed, names) for feed in feeds]
    if any(spec.static_shape[:1] != (1,) for spec in specs):
        return rows
    return [
        tuple(torch.cat(part) for part in zip(*rows[at : at + BATCH], strict=True)) for at in range(0, len(rows), BATCH)
    ]


def _writer(student: torch.nn.Module, options: PruningOptions) -> Any:
    def write(path: Path) -> None:
        specs = options.input_specs
        with tool_call("torch"):
            save_program(ModuleSession(student, specs), specs, path, options.ranges)

    return write


def _facts(teacher: torch.nn.Module, student: torch.nn.Module, recovery: Recovery) -> dict[str, Any]:
    return {
        "parameters_before": parameters(teacher),
        "parameters": parameters(student),
        "distillation_steps": recovery.steps,
        "distillation_s": round(recovery.seconds, 1),
        "loss_before": recovery.loss_before,
        "loss_after": recovery.loss_after,
    }


def _repeated(options: PruningOptions) -> str:
    """Repeat pruning and recovery on calibration.npz, whose arrays are in the order of the module's inputs."""
    return python_command(
        "import numpy, torch",
        "from pathlib import Path",
        "from workers.stages.optimize.channel_pruning import distil, prune_channels",
        *STATE_DICT_LINES,
        "model = session.module",
        "arrays = numpy.load('calibration.npz')",
        f"rows = [tuple(map(torch.from_numpy, (arrays[k][i:i + {BATCH}] for k in arrays.files))) "
        f"for i in range(0, len(arrays[arrays.files[0]]), {BATCH})]",
        f"student = prune_channels(model.eval(), rows[0], {options.share})",
        f"distil(student, model, rows[1:] or rows, rows[:1], budget_s={60 * options.budget_minutes})",
        "torch.export.save(torch.export.export(student.eval(), rows[0]), 'model.pt2')",
    )
