"""Word error rate: the fewest words to put in, leave out or replace, over the words that are right. Lower is better.

Labels are texts, one a sample, or ids, padded with -1, whose every number is a word. Where labels are texts, the data
holds `vocabulary`: the text of each id. An output is ids, or scores (steps, ids) whose best ones are taken; of scores,
repetitions and blanks are left out as CTC does. "" and names in <> are blanks, "|" and "▁" are spaces.
Agrees with jiwer. Source: Levenshtein (1966); Graves et al. (2006), Connectionist temporal classification, section 3.2.
The interval is a bootstrap over samples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Metric, Scale, Scored
from workers.stages.evaluate.metrics.resampling import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 400
PADDING = -1


@dataclass(slots=True)
class WordErrors:
    """Keep each sample's errors and words."""

    scale: Scale
    errors: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        """Add one sample.

        Raises:
            BadData: labels are neither texts nor ids, or texts without a vocabulary.
        """
        import numpy as np

        label, ids = np.asarray(truth), decoded(np.asarray(output))
        if label.dtype.kind == "U":
            if not self.scale.vocabulary:
                raise BadData(
                    "The labels are texts, and the evaluation data has no array 'vocabulary' with the text of each id.",
                    remedy="Add it: numpy.savez(file, vocabulary=numpy.array(tokens), labels=numpy.array(texts), …).",
                )
            said: Sequence[Hashable] = spelled(ids, self.scale.vocabulary)
            real: Sequence[Hashable] = str(label).split()
        elif label.dtype.kind in "iu":
            said, real = [i for i in ids if i >= 0], [int(i) for i in label.reshape(-1) if i != PADDING]
        else:
            raise BadData(f"A label of wer is a text, or ids as integers; it is of {label.dtype}.")
        self.errors.append(distance(said, real))
        self.words.append(len(real))

    def score(self) -> Scored:
        """Divide all errors by all words.

        Raises:
            BadData: no label holds a word.
        """
        import numpy as np

        errors, words = np.array(self.errors), np.array(self.words)
        if not words.sum():
            raise BadData("The labels hold no word; wer can't be told.", remedy="See docs/accuracy.md.")

        def value(weights: NDArray[Any]) -> float:
            return float(weights @ errors) / max(float(weights @ words), 1.0)

        samples = len(errors)
        return Scored(value(np.ones(samples)), bootstrap(samples, value, draws=DRAWS))


def decoded(output: NDArray[Any]) -> list[int]:
    """Take ids as they are, or the best id of each step, repetitions left out."""
    if output.dtype.kind in "iu":
        return [int(i) for i in output.reshape(-1)]
    best = output.reshape(-1, output.shape[-1]).argmax(axis=1)
    return [int(i) for place, i in enumerate(best) if place == 0 or i != best[place - 1]]


def spelled(ids: Sequence[int], vocabulary: Sequence[str]) -> list[str]:
    """Join the texts of ids and part them into words; ids out of the vocabulary are blanks."""
    texts = [vocabulary[i] for i in ids if 0 <= i < len(vocabulary)]
    joined = "".join("" if text.startswith("<") and text.endswith(">") else text for text in texts)
    return joined.replace("|", " ").replace("▁", " ").split()


def distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Count the fewest insertions, deletions and replacements that make one sequence of the other."""
    row = list(range(len(other) + 1))
    for place, word in enumerate(one, 1):
        above, row[0] = row[0], place
        for column, wanted in enumerate(other, 1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (word != wanted))
    return row[-1]


METRICS = (Metric("wer", True, WordErrors),)
