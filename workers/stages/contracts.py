"""Prove how the source's tensors appear in a converted file, by running both on a probe whose elements all differ.

Shapes alone do not tell a layout (a (3, 3, 3) image fits any order of axes), and names do not survive every
converter; the numbers decide.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import ArtifactBroken, ContractMismatch, NumericsBroken, RequestError
from farm.domain.facts import TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE
from farm.domain.recipe import RECIPES
from workers.runtimes import Session
from workers.runtimes.binding import dequantize, to_artifact
from workers.stages.compare.numerics import CAP_DB, OutputError
from workers.stages.samples import Feeds, Ranges, artifact_ranges, seeded_probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

SURE_DB = 60.0
"""A layout that reaches this is taken without trying the others."""
MAX_LAYOUTS = 64
"""Orders of axes that are tried, of all inputs together and of each output; the likely ones come first."""
MAX_AXES = 5
"""Of a tensor whose axes are put in another order."""

_NAMED_LAYOUTS = {
    (0, 2, 1): ("NCL", "NLC"),
    (0, 2, 3, 1): ("NCHW", "NHWC"),
    (0, 3, 1, 2): ("NHWC", "NCHW"),
    (0, 2, 3, 4, 1): ("NCDHW", "NDHWC"),
    (0, 4, 1, 2, 3): ("NDHWC", "NCDHW"),
}


@dataclass(frozen=True, slots=True)
class Declared:
    """A model's tensors in the file's order, where the model itself need not be open."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """A contract, and the lowest SQNR (dB) of any output on the probe that proved it."""

    contract: Contract
    sqnr_db: float


def prove_float(
    given: Contract, source: Session, artifact: Session, known_as: Mapping[str, str] | None = None
) -> Proof:
    """Bind a float artifact to the model it was made from.

    Args:
        given: how the source's tensors appear in the model that `source` runs.
        source: that model.
        artifact: what was made of it.
        known_as: the name a tool gave to an input, by the model's name.

    Raises:
        ArtifactBroken: outputs that are not finite.
        ContractMismatch: a different number of tensors, or shapes that no order of axes explains.
        NumericsBroken: no layout gives the model's function.
        RequestError: the model itself answers no probe with finite values.
    """
    return prove_answers(given, probes(given, source), artifact, known_as)


def prove_answers(
    given: Contract,
    answered: Iterable[tuple[Feeds, Feeds]],
    artifact: Session,
    known_as: Mapping[str, str] | None = None,
) -> Proof:
    """Bind a float artifact by what its model answered: inputs and outputs of as many probes as it takes.

    Raises: as prove_float.
    """
    limit = RECIPES["float32"].failed_below_db or 0.0
    best: Proof | None = None
    for probe, expected in answered:
        proof = prove(given, probe, expected, artifact, known_as=known_as)
        best = proof if best is None or proof.sqnr_db > best.sqnr_db else best
        if best.sqnr_db >= limit:
            return best
    reached, untried = (best.sqnr_db, _untried(best.contract)) if best else (-CAP_DB, "")
    raise NumericsBroken(
        f"The converted model computes something else: SQNR {reached:.1f} dB on seeded inputs, "
        f"at least {limit:.0f} dB is needed.{untried}",
        remedy="Take another chain of stages or another runtime; `farm routes --from FORMAT --to RUNTIME` lists them.",
        sqnr_db=reached,
    )


def _untried(contract: Contract) -> str:
    """Say how many orders of axes the shapes allow, where more do than were tried."""
    groups = [("inputs", contract.inputs), *((f"output {one.source.name}", (one,)) for one in contract.outputs)]
    told = []
    for what, bindings in groups:
        known = [(b.source.static_shape, b.artifact.static_shape) for b in bindings if _is_fixed(b)]
        allowed = math.prod(_count_orders(found) for _, found in known)
        tried = min(MAX_LAYOUTS, math.prod(len(list(_orders(model, found))) for model, found in known))
        if tried < allowed:
            told.append(
                f" Only {tried} of the {allowed} orders of axes that the shapes of its {what} allow were tried."
            )
    return "".join(told)


def _is_fixed(binding: Binding) -> bool:
    return all(spec.shape is not None and not spec.open_axes for spec in (binding.source, binding.artifact))


def _count_orders(shape: tuple[int, ...]) -> int:
    """Count the orders of axes that turn a shape of these sizes into another of the same ones."""
    return math.prod(math.factorial(count) for count in Counter(shape).values())


def prove(
    given: Contract, probe: Feeds, expected: Feeds, artifact: Session, *, known_as: Mapping[str, str] | None = None
) -> Proof:
    """Find the layout of every input and output under which `artifact` comes nearest to `expected`.

    Args:
        given: how the source's tensors appear in the model that gave `expected`.
        probe: that model's inputs by name.
        expected: that model's outputs by name.
        artifact: what was made of it.
        known_as: the name a tool gave to an input, by the model's name.
    """
    model = tuple(binding.artifact for binding in given.inputs)
    pairs = _match(model, artifact.inputs, "input", known_as or {})
    best: Proof | None = None
    for inputs in itertools.islice(_layouts(pairs), MAX_LAYOUTS):
        answers = artifact.run(to_artifact(probe, inputs))
        found = _bind_outputs(tuple(b.artifact for b in given.outputs), expected, answers, artifact.outputs)
        if found and (best is None or found[1] > best.sqnr_db):
            best = Proof(Contract(inputs, found[0]), found[1])
        if best and best.sqnr_db >= SURE_DB:
            break
    if best is None:
        wanted = _words(binding.artifact for binding in given.outputs)
        raise ContractMismatch(f"No order of axes turns the outputs {_words(artifact.outputs)} into {wanted}.")
    return replace(best, contract=compose(given, best.contract))


def compose(first: Contract, second: Contract) -> Contract:
    """Chain source → model and model → artifact into source → artifact; changes are told anew, in words."""
    inputs, outputs = _chain(first.inputs, second.inputs), _chain(first.outputs, second.outputs)
    kept = [change for change in first.changes if change not in _told(first.inputs, first.outputs)]
    added = [change for change in second.changes if change not in _told(second.inputs, second.outputs)]
    return Contract(inputs, outputs, tuple(dict.fromkeys((*kept, *added, *_told(inputs, outputs)))))


def bind_unchanged(given: Contract, model: Declared, artifact: Session | Declared) -> Contract:
    """Bind an artifact that keeps its model's tensors, by name or else by their order in the files.

    Raises:
        ContractMismatch: another number of tensors, or another rank or dtype.
    """
    inputs = _same(given.inputs, model.inputs, artifact.inputs, "input")
    return compose(given, Contract(inputs, _same(given.outputs, model.outputs, artifact.outputs, "output")))


def _same(
    bindings: tuple[Binding, ...], before: tuple[TensorSpec, ...], after: tuple[TensorSpec, ...], what: str
) -> tuple[Binding, ...]:
    became = {old.name: new for old, new in _match(before, after, what, {})}
    pairs = [(binding.artifact, became[binding.artifact.name]) for binding in bindings]
    for old, new in pairs:
        if old.dtype not in (new.dtype, UNKNOWN_DTYPE) or len(old.shape or ()) != len(new.shape or ()):
            raise ContractMismatch(f"The {what} {old} became {new}.")
    return tuple(Binding(old, replace(old, name=new.name, dtype=new.dtype)) for old, new in pairs)


def sqnr_db(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """Return the signal-to-quantization-noise ratio of one output in dB, within ±200."""
    error = OutputError()
    error.add(expected, actual)
    return error.sqnr_db


def probes(given: Contract, source: Session, ranges: Ranges | None = None) -> Iterator[tuple[Feeds, Feeds]]:
    """Yield inputs and outputs of the model, standard normal first, or within the `ranges` of the source's inputs.

    The domain of log or sqrt may need the positive one, and a detector that sees nothing in noise answers too little
    there to compare. Answers that are not finite are left out: nothing can be compared with them.

    Raises:
        RequestError: the model answers every probe with values that are not finite.
    """
    specs, answered, bad = tuple(binding.artifact for binding in given.inputs), False, ""
    told = artifact_ranges(given, ranges)
    for positive in (False, True):
        probe = seeded_probe(specs, told, positive=positive)
        expected = source.run(probe)
        if all_finite(expected):
            answered = True
            yield probe, expected
        else:
            bad = next(name for name, array in expected.items() if not all_finite({name: array}))
    if not answered:
        raise RequestError(
            f"The source itself returns values that are not finite in output {bad!r}, on seeded inputs both standard "
            "normal and in [0, 1); no converted file can be proved against it.",
            remedy="Bound what overflows or divides by zero in the model (a mask of -1e9 serves where -inf does), or "
            "end the model before it.",
        )


def all_finite(arrays: Mapping[str, NDArray[Any]]) -> bool:
    import numpy as np

    return all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f")


def _match(
    model: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...], what: str, known_as: Mapping[str, str]
) -> list[tuple[TensorSpec, TensorSpec]]:
    """Pair tensors by name, else by order."""
    if len(model) != len(found):
        raise ContractMismatch(f"The model has the {what}s {_words(model)}, the artifact {_words(found)}.")
    by_name = {_bare(spec.name): spec for spec in found}
    names = [_bare(known_as.get(spec.name, spec.name)) for spec in model]
    if len(by_name) == len(found) and set(names) == set(by_name):
        return [(spec, by_name[name]) for spec, name in zip(model, names, strict=True)]
    return list(zip(model, found, strict=True))


def _bare(name: str) -> str:
    """Drop what TensorFlow's converters add to a name."""
    return name.removeprefix("serving_default_").split(":")[0]


def _layouts(pairs: list[tuple[TensorSpec, TensorSpec]]) -> Iterator[tuple[Binding, ...]]:
    orders = [list(_orders(model.static_shape, _fixed(found, model))) for model, found in pairs]
    for (model, found), possible in zip(pairs, orders, strict=True):
        if not possible:
            more = f", or none was tried: they have more than {MAX_AXES}" if len(found.shape or ()) > MAX_AXES else ""
            raise ContractMismatch(f"No order of axes turns the input {model} into {found}{more}.")
    for choice in itertools.product(*orders):
        yield tuple(
            Binding(model, _typed(found.with_shape(_fixed(found, model)), model.dtype), order)
            for (model, found), order in zip(pairs, choice, strict=True)
        )


def _fixed(found: TensorSpec, model: TensorSpec) -> tuple[int, ...]:
    """Give open axes of the artifact the model's size; a file that says no shape takes the model's."""
    if found.shape is None:
        return model.static_shape
    shape = found.shape
    if len(shape) != len(model.static_shape):
        return tuple(axis for axis in shape if isinstance(axis, int))
    return tuple(a if isinstance(a, int) else m for a, m in zip(shape, model.static_shape, strict=True))


def _typed(spec: TensorSpec, dtype: str) -> TensorSpec:
    """Give a tensor of which the file says no dtype the one that was seen."""
    return replace(spec, dtype=dtype) if spec.dtype == UNKNOWN_DTYPE else spec


def _orders(model: tuple[int, ...], artifact: tuple[int, ...]) -> Iterator[tuple[int, ...] | None]:
    """Yield every order of axes that turns one shape into the other, the likely ones first."""
    if sorted(model) != sorted(artifact):
        return
    if model == artifact:
        yield None
    if len(model) > MAX_AXES:
        return
    named = [order for order in _NAMED_LAYOUTS if len(order) == len(model)]
    identity = tuple(range(len(model)))
    for order in dict.fromkeys((*named, *itertools.permutations(identity))):
        if order != identity and tuple(model[axis] for axis in order) == artifact:
            yield order


def _bind_outputs(
    model: tuple[TensorSpec, ...], expected: Feeds, answers: Feeds, found: tuple[TensorSpec, ...]
) -> tuple[tuple[Binding, ...], float] | None:
    """Give each output of the model the nearest output of the artifact, by name where names survived."""
    if len(model) != len(found):
        raise ContractMismatch(f"The model has the outputs {_words(model)}, the artifact {_words(found)}.")
    if all_finite(expected) and not all_finite(answers):
        raise ArtifactBroken("The converted model returns values that are not finite where its source's are.")
    named = {spec.name for spec in model} == {spec.name for spec in found}
    left, bindings, worst = list(found), [], CAP_DB
    for spec in model:
        candidates = [f for f in left if f.name == spec.name] if named else left
        scored = [(*_nearest(expected[spec.name], _real(answers[f.name], f)), f) for f in candidates]
        db, order, chosen = max(scored, key=lambda item: item[0])
        if db == float("-inf"):
            return None
        left.remove(chosen)
        seen = replace(spec, shape=tuple(expected[spec.name].shape), dtype=expected[spec.name].dtype.name)
        answer = answers[chosen.name]
        bindings.append(Binding(seen, _typed(chosen.with_shape(tuple(answer.shape)), answer.dtype.name), order))
        worst = min(worst, db)
    return tuple(bindings), worst


def _nearest(expected: NDArray[Any], answer: NDArray[Any]) -> tuple[float, tuple[int, ...] | None]:
    scored: list[tuple[float, tuple[int, ...] | None]] = []
    for order in itertools.islice(_orders(expected.shape, answer.shape), MAX_LAYOUTS):
        scored.append((sqnr_db(expected if order is None else expected.transpose(order), answer), order))
        if scored[-1][0] >= SURE_DB:
            break
    return max(scored, key=lambda item: item[0], default=(float("-inf"), None))


def _real(answer: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    return answer if spec.scale is None else dequantize(answer, spec)


def _chain(first: tuple[Binding, ...], second: tuple[Binding, ...]) -> tuple[Binding, ...]:
    by_model = {binding.source.name: binding for binding in second}
    chained = []
    for binding in first:
        nxt = by_model[binding.artifact.name]
        order = _chain_orders(binding.transpose, nxt.transpose)
        chained.append(Binding(_completed(binding, nxt.source), nxt.artifact, order))
    return tuple(chained)


def _completed(binding: Binding, seen: TensorSpec) -> TensorSpec:
    """Fill in what the source's file left open from what the model's tensor turned out to be."""
    source = binding.source
    if (source.shape is None or source.open_axes) and seen.shape is not None and not seen.open_axes:
        order, shape = binding.transpose, seen.static_shape
        back = shape if order is None else tuple(shape[order.index(axis)] for axis in range(len(order)))
        source = source.with_shape(back)
    return replace(source, dtype=seen.dtype) if source.dtype == UNKNOWN_DTYPE else source


def _chain_orders(first: tuple[int, ...] | None, second: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if first is None or second is None:
        return second if first is None else first
    order = tuple(first[axis] for axis in second)
    return None if order == tuple(range(len(order))) else order


def _change(what: str, binding: Binding) -> Iterator[str]:
    source, artifact = binding.source, binding.artifact
    if source.name != artifact.name:
        yield f"{what} {source.name}: renamed to {artifact.name}"
    if source.dtype != artifact.dtype:
        yield f"{what} {source.name}: {source.dtype} → {artifact.dtype}{_parameters(artifact)}"
    if binding.transpose is not None:
        named = _NAMED_LAYOUTS.get(binding.transpose)
        order = " → ".join(named) if named else f"axes in the order {list(binding.transpose)}"
        yield f"{what} {source.name}: {order}"


def _parameters(spec: TensorSpec) -> str:
    """Say how an integer tensor stands for real values."""
    return "" if spec.scale is None else f" (scale {spec.scale:.6g}, zero point {spec.zero_point or 0})"


def _told(inputs: tuple[Binding, ...], outputs: tuple[Binding, ...]) -> tuple[str, ...]:
    """Put every difference that bindings hold into words."""
    lines = [_change("input", binding) for binding in inputs] + [_change("output", binding) for binding in outputs]
    return tuple(itertools.chain.from_iterable(lines))


def told_changes(contract: Contract) -> tuple[str, ...]:
    """Put every difference of a contract's bindings from the source's tensors into words."""
    return _told(contract.inputs, contract.outputs)


def _words(specs: Any) -> str:
    return ", ".join(map(str, specs)) or "none"
