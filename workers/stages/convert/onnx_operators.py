"""What the ONNX → TFLite converters are known to get wrong, read off a model's facts."""

from __future__ import annotations

from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Verdict
from workers.stages.model_sizes import refused_size

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
SEQUENCES = frozenset({"SequenceConstruct", "SequenceAt", "SequenceInsert", "SequenceEmpty", "SplitToSequence"})
STRINGS = frozenset({"StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch", "TfIdfVectorizer"})
STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


def refused_operators(
    facts: ModelFacts, tool: str, more: frozenset[str] = frozenset(), *, form: str = "TFLite"
) -> Verdict:
    """Refuse a model whose operators `tool` has no form of the target for, all of them named, and one too large.

    The tool gets its weights inside the file, since it rewrites it: no protobuf holds 2 GiB.
    Only a source that is ONNX itself can be judged ahead: the facts of another one name another library's operators.
    """
    size = refused_size(
        facts,
        f"the one file that {tool} reads",
        "Take it as ONNX with its external data, or quantize its weights first.",
    )
    if not size.can:
        return size
    if facts.format is not Format.ONNX:
        return Verdict.yes()
    bad = sorted(set(facts.operators) & (CONTROL_FLOW | SEQUENCES | STRINGS | more))
    if bad:
        return Verdict.no(
            f"{tool} has no {form} form for {', '.join(bad)}. Export the model without them "
            "(fold or unroll control flow, leave post-processing out), or choose onnxruntime."
        )
    foreign = sorted(name for name in facts.operators if _domain(name) not in STANDARD_DOMAINS)
    if foreign:
        return Verdict.no(
            f"{tool} knows standard ONNX operators only; the model holds {', '.join(foreign)}. "
            "Replace them by standard operators, or choose onnxruntime."
        )
    return Verdict.yes()


def _domain(operator: str) -> str:
    """Return the domain of an operator named `domain::Type` or `domain.Type`; a bare type has none."""
    for separator in ("::", ":"):
        if separator in operator:
            return operator.rpartition(separator)[0]
    return operator.rpartition(".")[0]
