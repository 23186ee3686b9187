"""Score an artifact on the user's evaluation data under its own runtime, beside the source's float score.

One stage per deployable runtime, named evaluate-<runtime>; it runs on the target's host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Contract
from farm.domain.data import CHOSEN_BY
from farm.domain.errors import BadData, BadRequest
from farm.domain.inputs import LABELS, VOCABULARY
from farm.domain.stage import Kind, Options, StageInput, StageOutput, always, stage
from workers.runtimes import Runtime, deployable_runtimes
from workers.stages.compare.agreement import check_contract
from workers.stages.compare.run_artifact import (
    check_shape,
    declared_contract,
    open_artifact,
    reference_samples,
    run_artifact,
    selecting,
)
from workers.stages.evaluate.metrics import Metric, Scale, Tally, metric_named
from workers.stages.npz import NpzReader

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EvaluateOptions(Options):
    """Which metric, and which output it is taken of.

    When `output` is None, that is the first output, or all of them for a metric without labels.
    """

    metric: str = "top1"
    output: str | None = None


def run_evaluation(runtime: Runtime, given: StageInput) -> StageOutput:
    """Run every evaluation sample and score it, and the source's stored outputs with it.

    Args:
        runtime: what executes the artifact.
        given: files["model"], files["evaluation"] from a reference stage over the evaluation data (with `labels`);
            contract as the route declares it.
    Returns: facts {"accuracy": {metric, value, ci95, float_value, float_ci95, samples, outputs}}; and as `selection`
        the scores on the samples that select, where the reference run marks any.
    Raises: BadRequest for an unknown metric; BadData for labels that do not fit the output.
    """
    options: EvaluateOptions = given.options
    metric = metric_named(options.metric)
    contract = declared_contract(given)
    names = _output_names(contract, options, metric)
    session = open_artifact(runtime, given.files["model"])
    check_contract(contract, session.inputs, session.outputs)
    with NpzReader(given.files["evaluation"], what="evaluation") as reader:
        scale = _scale(reader, names)
        tallies = {selects: _Tallies(metric.start(scale), metric.start(scale)) for selects in (False, True)}
        rows = zip(reference_samples(reader, contract), _labels(reader, metric), selecting(reader), strict=True)
        for (inputs, outputs), label, selects in rows:
            results = run_artifact(runtime, session, contract, inputs)
            for name in names:
                check_shape(name, outputs[name], results[name])
            expected, actual = (_one_array(each, names, metric) for each in (outputs, results))
            tallies[selects].add(expected, actual, expected if label is None else label)
    accuracy: dict[str, Any] = {"metric": metric.name, **tallies[False].scores(), "outputs": list(names)}
    if tallies[True].samples:
        accuracy[CHOSEN_BY] = tallies[True].scores()
    return StageOutput(facts={"accuracy": accuracy})


@dataclass(slots=True)
class _Tallies:
    """What the artifact and the source reach on the samples of one part."""

    artifact: Tally
    source: Tally
    samples: int = 0

    def add(self, expected: NDArray[Any], actual: NDArray[Any], truth: NDArray[Any]) -> None:
        self.source.add(expected, truth)
        self.artifact.add(actual, truth)
        self.samples += 1

    def scores(self) -> dict[str, Any]:
        scored, of_source = self.artifact.score(), self.source.score()
        return {
            "value": scored.value,
            "ci95": list(scored.ci95),
            "float_value": of_source.value,
            "float_ci95": list(of_source.ci95),
            "samples": self.samples,
        }


def _scale(reader: NpzReader, names: tuple[str, ...]) -> Scale:
    shape = reader.headers[f"output/{names[0]}"].shape[1:] if len(names) == 1 else ()
    words = reader.array(VOCABULARY).reshape(-1).tolist() if VOCABULARY in reader.headers else ()
    return Scale(shape, tuple(map(str, words)))


def _output_names(contract: Contract, options: EvaluateOptions, metric: Metric) -> tuple[str, ...]:
    names = tuple(binding.source.name for binding in contract.outputs)
    if options.output is None:
        return names[:1] if metric.needs_labels and metric.gather is None else names
    if options.output not in names:
        raise BadRequest(f"The model has no output {options.output!r}; its outputs are {', '.join(names)}.")
    return (options.output,)


def _one_array(arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...], metric: Metric) -> NDArray[Any]:
    """Return the output itself, what the metric makes of several, or the values of several in one row."""
    import numpy as np

    if metric.gather is not None:
        return metric.gather({name: arrays[name] for name in names})
    if len(names) == 1:
        return arrays[names[0]]
    return np.concatenate([arrays[name].ravel() for name in names])


def _labels(reader: NpzReader, metric: Metric) -> Iterator[NDArray[Any] | None]:
    """Yield one label per sample, or None where the metric needs none.

    Raises:
        BadData: the metric needs labels and the data has none.
    """
    if metric.needs_labels and LABELS not in reader.headers:
        raise BadData(
            f"Metric {metric.name} needs an array 'labels' in the evaluation data, one per sample.",
            remedy="Add labels to the .npz, or take the metric agreement, which needs none.",
        )
    count = max(header.rows for name, header in reader.headers.items() if name not in (LABELS, VOCABULARY))
    yield from reader.rows(LABELS) if metric.needs_labels else [None] * count


def _register(runtime: Runtime) -> None:
    stage(
        name=f"evaluate-{runtime.name}",
        version="3",
        kind=Kind.EVALUATE,
        environment=runtime.environment,
        check=always,
        runtime=runtime.name,
        inputs=("evaluation",),
        options=EvaluateOptions,
        reads=("name",),
        tools=runtime.tools,
        preload=runtime.preload,
        timeout_s=1800.0,
    )(partial(run_evaluation, runtime))


for _runtime in deployable_runtimes():
    _register(_runtime)
