"""A float model and the quantized one made of it, opened side by side: which inner tensors stand for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from farm.domain.facts import TensorSpec
from workers.stages.samples import Feeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Compared = tuple["Tap", NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Tap:
    """A tensor of the float model, what makes it, and where both files hold it.

    `tensor` and `operator` are the float model's words; `before` and `after` name it to the float and the quantized
    side of a pair.
    """

    tensor: str
    operator: str
    before: str
    after: str


class Pair(Protocol):
    """Both models opened; `total` counts the float model's inner tensors, `taps` are those with a counterpart.

    Taps are in the order of execution. Values are real ones: integers are dequantized.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """List the inputs of the float model, in the file's order."""
        ...

    @property
    def taps(self) -> tuple[Tap, ...]: ...

    @property
    def total(self) -> int: ...

    def values(self, taps: Sequence[Tap], before: Feeds, after: Feeds) -> Iterator[Compared]:
        """Run both models and yield each tap's float and quantized value, one pair at a time."""
        ...


Opener = Callable[[Path, Path, Path], Pair]
"""Opens the float and the quantized file; the third path is a folder for scratch files."""
