"""A model's facts for the terminal."""

from __future__ import annotations

from typing import Any

from farm.cli.output import stdout
from farm.domain.codec import decode
from farm.domain.facts import Format, ModelFacts
from farm.report.text import plain, size
from farm.wire.jobs import ModelView, TargetView

SHOWN_OPERATORS = 12
EDGE_TPU = "edgetpu"
"""The runtime of targets with an Edge TPU, and the key of the facts that are about it."""


def facts_json(view: ModelView, target: TargetView | None) -> dict[str, Any]:
    """Return a model with the target asked for; one with an Edge TPU gets the predicted mapping as `edgetpu`."""
    shown = {**view.model_dump(mode="json"), "target": target.model_dump(mode="json") if target else None}
    prediction = _edge_tpu(view, target)
    return shown if prediction is None else {**shown, EDGE_TPU: prediction}


def _edge_tpu(view: ModelView, target: TargetView | None) -> dict[str, Any] | None:
    if target is None or EDGE_TPU not in target.runtimes:
        return None
    found: dict[str, Any] | None = (view.facts or {}).get("extra", {}).get(EDGE_TPU)
    return found


def print_facts(view: ModelView, target: TargetView | None) -> None:
    from rich.table import Table
    from rich.text import Text

    facts = decode(ModelFacts, view.facts)
    table = Table.grid(padding=(0, 2))
    mapping = _edge_tpu_lines(_edge_tpu(view, target)) or _edge_tpu_way(facts, target)
    for name, value in (*_lines(facts), *_target_lines(target), *mapping):
        table.add_row(Text(name, style="bold"), Text(plain(value, keep="\n")))
    stdout().print(table)


def _lines(facts: ModelFacts) -> list[tuple[str, str]]:
    known: list[tuple[str, Any]] = [
        ("format", facts.format.value),
        ("inputs", "\n".join(map(str, facts.inputs))),
        ("outputs", "\n".join(map(str, facts.outputs))),
        ("parameters", None if facts.parameters is None else f"{facts.parameters:,}"),
        ("size", None if facts.size_bytes is None else size(facts.size_bytes)),
        ("opset", facts.opset),
        ("producer", facts.producer),
        ("operators", _operators(facts)),
    ]
    return [(name, str(value)) for name, value in known if value not in (None, "")]


def _operators(facts: ModelFacts) -> str:
    ranked = sorted(facts.operators.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count} {name}" for name, count in ranked[:SHOWN_OPERATORS])
    rest = len(ranked) - SHOWN_OPERATORS
    return f"{shown} and {rest} more kinds" if rest > 0 else shown


def _target_lines(target: TargetView | None) -> list[tuple[str, str]]:
    if target is None:
        return []
    hosts = ", ".join(target.live_hosts) or "no live host"
    return [("target", f"{target.name} runs {', '.join(target.runtimes)}; served by {hosts}")]


def _edge_tpu_lines(prediction: dict[str, Any] | None) -> list[tuple[str, str]]:
    if prediction is None:
        return []
    operators, memory = prediction["operators"], prediction["memory"]
    left = [each for each in operators if not each["mapped"]]
    lines = [f"predicted: {len(operators) - len(left)} of {len(operators)} operators mapped"]
    if prediction["refusal"] is not None:
        return [("edge tpu", "\n".join([*lines, f"the compiler would refuse the model: {prediction['refusal']}"]))]
    lines += [f"{each['index']} {each['type']}: {each['reason']}" for each in left[:SHOWN_OPERATORS]]
    if len(left) > SHOWN_OPERATORS:
        lines.append(f"and {len(left) - SHOWN_OPERATORS} more on the CPU")
    if len(left) < len(operators):
        lines.append(f"{size(memory['cached_bytes'])} cached on chip, {size(memory['streamed_bytes'])} streamed")
    return [("edge tpu", "\n".join(lines))]


def _edge_tpu_way(facts: ModelFacts, target: TargetView | None) -> list[tuple[str, str]]:
    """Say how a model that is no TFLite yet comes to an Edge TPU."""
    if target is None or EDGE_TPU not in target.runtimes or facts.format in (Format.TFLITE, Format.EDGETPU_TFLITE):
        return []
    steps = (
        f"no prediction of a model of format {facts.format.value}: the compiler reads TFLite of whole int8. Make one:",
        f"  farm submit MODEL -t {target.name} -r litert --recipe int8-full-integer --calibration DATA.npz --wait",
        f"then look at what came out:  farm inspect model.tflite --target {target.name}",
        f"or have it compiled at once: -r {EDGE_TPU} instead of -r litert (docs/edge-tpu.md)",
    )
    return [("edge tpu", "\n".join(steps))]
