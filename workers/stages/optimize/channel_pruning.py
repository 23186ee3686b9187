"""Remove channels of a torch module, and recover by distillation from the module as it was.

Tool: torch-pruning 1.6.1 (its dependency graph finds all layers that share a channel), torch 2.13.0.
Document: Fang et al. 2023, https://arxiv.org/abs/2301.12900; Hinton et al. 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.domain.errors import ConversionFailed
from workers.runtimes.torch_modules import named_tensors
from workers.stages.tool_calls import FOREIGN

if TYPE_CHECKING:
    import torch

BATCH, LEARNING_RATE, PATIENCE = 32, 1e-3, 20
Arguments = tuple["torch.Tensor", ...]


@dataclass(frozen=True, slots=True)
class Recovery:
    """How distillation went: steps made, seconds taken, the loss on samples set aside before and after."""

    steps: int
    seconds: float
    loss_before: float
    loss_after: float


def prune_channels(module: torch.nn.Module, example: Arguments, share: float) -> torch.nn.Module:
    """Return a copy without the `share` of channels whose weights are smallest; outputs keep their shapes.

    Raises:
        ConversionFailed: no channel can go.
    """
    import torch_pruning

    fixed = output_layers(module, example)
    pruned = copy.deepcopy(module).requires_grad_(True)
    layers = dict(pruned.named_modules())
    pruner = torch_pruning.pruner.BasePruner(
        pruned,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=[layers[name] for name in fixed],
    )
    before = parameters(pruned)
    pruner.step()
    if parameters(pruned) == before:
        raise ConversionFailed(
            f"No channel of this model can be removed: each of its layers ({', '.join(fixed) or 'none'}) gives an "
            "output, or is of a kind that torch-pruning does not know.",
            remedy="Take int8-static or float16.",
        )
    return pruned


def output_layers(module: torch.nn.Module, example: Arguments) -> list[str]:
    """Name the layers whose channels are an output's: without one of them, an output has another shape."""
    import torch

    shapes = _shapes(module, example)
    weighted = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, weighted) and _without_a_channel(module, name, example) != shapes
    ]


def _without_a_channel(module: torch.nn.Module, name: str, example: Arguments) -> list[Any] | None:
    """Return the shapes of the outputs once a layer's first channel is gone; None where that does not work."""
    import torch_pruning

    tried = copy.deepcopy(module).requires_grad_(True)
    layer = dict(tried.named_modules())[name]
    try:
        graph = torch_pruning.DependencyGraph().build_dependency(tried, example_inputs=example)
        group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, idxs=[0])
        group.prune()
        return _shapes(tried, example)
    except FOREIGN:
        return None


def _shapes(module: torch.nn.Module, example: Arguments) -> list[Any]:
    import torch

    with torch.no_grad():
        return [(name, tuple(tensor.shape)) for name, tensor in named_tensors(module(*example)).items()]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def distil(
    student: torch.nn.Module,
    teacher: torch.nn.Module,
    train: Sequence[Arguments],
    held: Sequence[Arguments],
    *,
    budget_s: float,
) -> Recovery:
    """Train the student in place to answer as the teacher does, and leave it as it was nearest on `held`.

    Each output's squared error is divided by that output's mean square. Training ends with the budget, or when `held`
    got no nearer for some rounds.
    """
    import torch

    with torch.no_grad():
        wanted = [_answers(teacher, one) for one in train]
        asked = [_answers(teacher, one) for one in held]
    start = time.monotonic()
    before = best = _loss(student, held, asked)
    kept, waited, steps = copy.deepcopy(student.state_dict()), 0, 0
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    for at in itertools.cycle(range(len(train))):
        optimizer.zero_grad()
        _distance(_answers(student, train[at]), wanted[at]).backward()
        optimizer.step()
        steps += 1
        if at == len(train) - 1:
            loss = _loss(student, held, asked)
            waited = 0 if loss < best else waited + 1
            if loss < best:
                best, kept = loss, copy.deepcopy(student.state_dict())
        if waited >= PATIENCE or time.monotonic() - start > budget_s:
            break
    student.load_state_dict(kept)
    return Recovery(steps, time.monotonic() - start, before, best)


def _answers(module: torch.nn.Module, given: Arguments) -> list[torch.Tensor]:
    return [tensor for tensor in named_tensors(module(*given)).values() if tensor.is_floating_point()]


def _distance(answers: list[torch.Tensor], wanted: list[torch.Tensor]) -> torch.Tensor:
    import torch

    parts = [((a - w) ** 2).mean() / (w**2).mean().clamp_min(1e-12) for a, w in zip(answers, wanted, strict=True)]
    return torch.stack(parts).sum()


def _loss(module: torch.nn.Module, rows: Sequence[Arguments], wanted: list[list[torch.Tensor]]) -> float:
    import torch

    with torch.no_grad():
        losses = [float(_distance(_answers(module, row), answer)) for row, answer in zip(rows, wanted, strict=True)]
    return sum(losses) / len(losses)
