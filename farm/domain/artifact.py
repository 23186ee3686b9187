"""Immutable files, and how the source's tensors appear in an artifact."""

from __future__ import annotations

from dataclasses import dataclass

from farm.domain.codec import digest
from farm.domain.facts import TensorSpec


@dataclass(frozen=True, slots=True, order=True)
class FileRef:
    """One file: `name` is its relative POSIX path within the artifact."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, or a tree of files, sorted by name. `is_tree` keeps a folder with one file a folder."""

    files: tuple[FileRef, ...]
    is_tree: bool = False

    @property
    def digest(self) -> str:
        """Identify the content: a file's own sha256, a tree's sha256 over its canonical manifest."""
        if not self.is_tree:
            (only,) = self.files
            return only.sha256
        return digest([[f.name, f.sha256, f.size_bytes] for f in sorted(self.files)])

    @property
    def size_bytes(self) -> int:
        return sum(f.size_bytes for f in self.files)


@dataclass(frozen=True, slots=True)
class Binding:
    """One tensor of the source and the tensor of the artifact that stands for it.

    `transpose` turns the source's axes into the artifact's: artifact = source.transpose(transpose).
    """

    source: TensorSpec
    artifact: TensorSpec
    transpose: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """How to call an artifact with the source's tensors, and every declared difference in words."""

    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    changes: tuple[str, ...] = ()

    @staticmethod
    def identity(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Contract:
        return Contract(tuple(Binding(t, t) for t in inputs), tuple(Binding(t, t) for t in outputs))
