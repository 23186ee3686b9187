"""Tell torch's files apart by their members, before torch opens them.

Source: PyTorch, the archives of torch.export.save (models/*.json), torch.jit.save (code/) and torch.save (data.pkl).
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import CorruptModel, FarmError, UnknownFormat, UnsafeModel
from farm.domain.facts import Format
from workers.stages.inspect.reading import DAMAGE

EXPORT_REMEDY = (
    "Build the model in Python, load the weights, and save torch.export.export(model.eval(), inputs) "
    "with torch.export.save('model.pt2')."
)
BUILDER_REMEDY = (
    "Add --builder FILE.py (SDK builder=, job file builder = …): a Python file whose build() returns the "
    "torch.nn.Module that the weights belong to; see `farm submit --help`."
)
_PICKLE_MAGIC = b"\x80"


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip of torch; `names` are its members without the top folder."""

    path: Path
    names: tuple[str, ...]

    @property
    def format(self) -> Format | None:
        """Return which of torch's formats it is; None for an archive that is none."""
        if any(name.startswith("models/") and name.endswith(".json") for name in self.names):
            return Format.TORCH_EXPORTED_PROGRAM
        if "constants.pkl" in self.names and any(name.startswith("code/") for name in self.names):
            return Format.TORCHSCRIPT
        return Format.TORCH_STATE_DICT if "data.pkl" in self.names else None

    def read(self, prefix: str, suffix: str) -> list[bytes]:
        """Read the members under a folder with an ending.

        Raises:
            CorruptModel: one is damaged.
        """
        with zipfile.ZipFile(self.path) as archive:
            try:
                return [
                    archive.read(info)
                    for info in archive.infolist()
                    if (name := info.filename.partition("/")[2]).startswith(prefix) and name.endswith(suffix)
                ]
            except DAMAGE as exc:
                raise _incomplete(self.path, exc) from exc


def open_archive(entry: Path, wanted: Format) -> Archive:
    """Read the member list of an archive of the wanted format.

    Raises:
        UnsafeModel: a pickle that holds more than weights.
        UnknownFormat: weights without a program, or another of torch's formats.
        CorruptModel: no archive, or a truncated one.
    """
    with entry.open("rb") as file:
        first = file.read(1)
    if first == _PICKLE_MAGIC:
        raise _refused_pickle(entry)
    try:
        with zipfile.ZipFile(entry) as archive:
            found = Archive(entry, tuple(name.partition("/")[2] for name in archive.namelist()))
    except DAMAGE as exc:
        raise _incomplete(entry, exc) from exc
    if found.format is wanted:
        return found
    if found.format is Format.TORCH_STATE_DICT:
        raise _refused_pickle(entry)
    if found.format is None:
        raise UnknownFormat(f"{entry.name} is a zip archive, but none of torch's formats.", remedy=EXPORT_REMEDY)
    suffix = ".pt2" if found.format is Format.TORCH_EXPORTED_PROGRAM else ".jit"
    raise UnknownFormat(
        f"{entry.name} holds a {found.format}, not a {wanted} as its name says.",
        remedy=f"Rename it so that it ends in {suffix}.",
    )


def _incomplete(entry: Path, cause: Exception) -> CorruptModel:
    return CorruptModel(
        f"{entry.name} is not a complete archive of torch: {cause}.",
        remedy="Save the model again and check that the copy is complete.",
    )


def _refused_pickle(entry: Path) -> FarmError:
    """Say whether a pickle holds plain weights or more; it is read without running anything."""
    import torch

    try:
        torch.load(entry, map_location="meta", weights_only=True)
    except pickle.UnpicklingError:
        return UnsafeModel(
            f"{entry.name} is a pickle of Python objects, which runs code when it is loaded; it was not loaded.",
            remedy=EXPORT_REMEDY,
        )
    except DAMAGE as exc:
        return _incomplete(entry, exc)
    return UnknownFormat(
        f"{entry.name} holds weights only (a state_dict); the program that uses them is missing.", remedy=BUILDER_REMEDY
    )
