"""Run a source model as it was submitted: its outputs are what every artifact is held against.

One stage per source format, named reference-<format>, written over the runtimes; all run in the builder environment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.codec import encode
from farm.domain.data import CHOSEN_BY, SELECTS, Part
from farm.domain.errors import BadRequest, RequestError
from farm.domain.facts import Format, TensorSpec
from farm.domain.inputs import LABELS, VOCABULARY
from farm.domain.stage import Kind, Options, StageInput, StageOutput, always, stage
from workers.runtimes import Runtime, Session, load_runtimes, runtime_of
from workers.stages.npz import NpzReader, NpzWriter
from workers.stages.reference.data import check_data, chosen_rows, generated_samples, user_samples
from workers.stages.samples import split_rows
from workers.stages.wording import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sample = dict[str, NDArray[Any]]

GENERATED = 8


@dataclass(frozen=True, slots=True)
class ReferenceOptions(Options):
    """How many samples to run, and how to make them when the user gave none.

    `samples` is the most that is taken of the user's data; without data at most 8 are generated, floats uniform in
    `sample_range` unless `ranges` names their input. `part` takes only the samples of the data that are for that:
    "report" takes those that neither calibrate nor select. `selects` adds as many of those that select, marked as such,
    after the others: of files["selection"] where that is given, which reports nothing, else of files["samples"].
    """

    samples: int = GENERATED
    seed: int = 0
    sample_range: tuple[float, float] = (0.0, 1.0)
    part: Part | None = None
    selects: bool = False


@dataclass(frozen=True, slots=True)
class _Data:
    """What the source is run on: `count` samples, and what goes along: labels for them, a vocabulary."""

    samples: Iterator[Sample]
    count: int
    along: Mapping[str, NDArray[Any]]


def run_source(runtime: Runtime, given: StageInput) -> StageOutput:
    """Run the float source on every sample, in inference mode, on one thread.

    Args:
        runtime: what executes the source.
        given: files["model"], optionally files["samples"] (.npz by input name, `labels` and `vocabulary` too) and
            files["selection"] (the calibration data); options.input_specs with every axis fixed.
    Returns: samples.npz with `input/<name>` and `output/<name>` of shape (N, *shape), `labels` and `vocabulary`
        when given, and `selects` (N, 1) of 0 and 1 when some samples select; facts {"samples", "generated", "outputs":
        observed TensorSpecs}.
    Raises: BadData when the data does not fit; RequestError when the source returns values that are not finite.
    """
    options: ReferenceOptions = given.options
    if not options.input_specs or options.samples < 1:
        raise BadRequest("The source's inputs must be given with every axis fixed, and at least one sample.")
    with ExitStack() as stack:
        data = _data(given, options, stack)
        session = runtime.load(given.files["model"])
        target = given.work / "samples.npz"
        observed = _record(_runner(runtime, session), data, target)
    generated = "samples" not in given.files
    facts = {"samples": data.count, "generated": generated, "outputs": encode(observed)}
    return StageOutput(files={"samples": target}, facts=facts)


def _data(given: StageInput, options: ReferenceOptions, stack: ExitStack) -> _Data:
    specs = options.input_specs
    if "samples" not in given.files:
        count = min(options.samples, GENERATED)
        made = generated_samples(specs, count, seed=options.seed, span=options.sample_range, ranges=options.ranges)
        return _Data(made, count, {})
    reader = stack.enter_context(NpzReader(given.files["samples"], what="given"))
    check_data(reader, specs)
    rows = chosen_rows(_meant(reader, options), options.samples)
    samples, selected = user_samples(reader, specs, rows), 0
    if options.selects:
        chooses = _selecting(given, stack) or reader
        split = split_rows(chooses, specs, reports=chooses is reader)
        chosen = chosen_rows(split.selection, options.samples)
        samples, selected = chain(samples, user_samples(chooses, specs, chosen)), len(chosen)
    along = {LABELS: reader.array(LABELS)[list(rows)]} if _labelled(reader, specs) else {}
    if VOCABULARY in reader.headers and VOCABULARY not in {spec.name for spec in specs}:
        along[VOCABULARY] = reader.array(VOCABULARY)
    if selected:
        along[SELECTS] = _marks(len(rows), selected)
    return _Data(samples, len(rows) + selected, along)


def _selecting(given: StageInput, stack: ExitStack) -> NpzReader | None:
    """Open the data that selects where another file reports."""
    if CHOSEN_BY not in given.files:
        return None
    reader = stack.enter_context(NpzReader(given.files[CHOSEN_BY], what="calibration"))
    check_data(reader, given.options.input_specs)
    return reader


def _marks(reported: int, selected: int) -> NDArray[Any]:
    import numpy as np

    return np.repeat(np.array([[0], [1]], np.uint8), [reported, selected], axis=0)


def _meant(reader: NpzReader, options: ReferenceOptions) -> Sequence[int]:
    """List the rows that are for this."""
    specs = options.input_specs
    if options.part is None:
        return range(reader.headers[specs[0].name].rows)
    return split_rows(reader, specs, reports=True).rows(options.part)


def _labelled(reader: NpzReader, specs: tuple[TensorSpec, ...]) -> bool:
    """Tell whether the file has one label per sample."""
    header = reader.headers.get(LABELS)
    return header is not None and header.rows == reader.headers[specs[0].name].rows


def _runner(runtime: Runtime, session: Session) -> Callable[[Sample], Mapping[str, NDArray[Any]]]:
    """Wrap the session so that its refusal of an input is the submitter's to mend."""

    def run(sample: Sample) -> Mapping[str, NDArray[Any]]:
        try:
            return session.run(sample)
        except runtime.refusals() as exc:
            raise RequestError(
                f"The source model itself does not run on these inputs: {plain(str(exc), limit=800)}",
                remedy="Check shapes and values: give --input sizes and --calibration data that the model accepts.",
                tool=runtime.name,
            ) from exc

    return run


def _record(call: Callable[[Sample], Mapping[str, NDArray[Any]]], data: _Data, target: Path) -> tuple[TensorSpec, ...]:
    """Run every sample and write inputs and outputs; return the outputs as they came."""
    import numpy as np

    writer = NpzWriter(target)
    observed: tuple[TensorSpec, ...] = ()
    for index, sample in enumerate(data.samples):
        outputs = call(sample)
        _refuse_not_finite(outputs, index)
        for name, array in sample.items():
            writer.append(f"input/{name}", array, count=data.count)
        for name, array in outputs.items():
            writer.append(f"output/{name}", np.asarray(array), count=data.count)
        observed = observed or tuple(TensorSpec(name, a.dtype.name, tuple(a.shape)) for name, a in outputs.items())
    for name, array in data.along.items():
        for row in range(len(array)):
            writer.append(name, np.asarray(array[row, ...]), count=len(array))
    writer.close()
    return observed


def _refuse_not_finite(outputs: Mapping[str, NDArray[Any]], index: int) -> None:
    import numpy as np

    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise RequestError(
                f"The source model itself returns {bad} of {array.size} values in output {name!r} that are not finite "
                f"(sample {index}); nothing can be compared with it.",
                remedy="Give --calibration data in the range the model was trained on, or repair the model.",
            )


def _register(source: Format, runtime: Runtime) -> None:
    stage(
        name=f"reference-{source}",
        version="4",
        kind=Kind.REFERENCE,
        environment=runtime.builds_in,
        check=always,
        source=source,
        options=ReferenceOptions,
        tools=runtime.tools,
        preload=runtime.preload,
        timeout_s=1800.0,
    )(partial(run_source, runtime))


for _runtime in load_runtimes().values():
    for _source in () if _runtime.device else _runtime.accepts:
        if runtime_of(_source) is _runtime:
            _register(_source, _runtime)
