"""Read weights of torch without running pickles, and put them into a module.

Tested with torch 2.13.0 and safetensors 0.8. Source: PyTorch, torch.load(weights_only=True) and Module.load_state_dict;
safetensors, its file format.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadRequest, CorruptModel, FarmError, UnknownFormat, UnsafeModel

if TYPE_CHECKING:
    import torch

WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
KEYS = ("state_dict", "model_state_dict", "model")
"""Where a training script's checkpoint keeps the weights."""
NAMED = 5
"""Tensors that a message lists of each kind."""
_SAVE_AGAIN = "Save the weights again with torch.save(model.state_dict(), file) and check that the copy is complete."
_SAVE_PLAIN = (
    "Where you trust the file, load it and save torch.save(model.state_dict(), 'weights.pth') or safetensors' "
    "save_file: tensors only."
)


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors by name; `key` is where a checkpoint kept them, `prefix` what was dropped from every name."""

    tensors: Mapping[str, torch.Tensor]
    key: str | None = None
    prefix: str = ""


def read_weights(path: Path) -> Weights:
    """Read a state_dict, or the one in a checkpoint.

    Raises:
        UnsafeModel: a pickle that holds more than tensors.
        UnknownFormat: a program, not weights.
        CorruptModel: truncated, or no such file.
        BadRequest: it holds no tensors by name.
    """
    found = _safetensors(path) if path.suffix.lower() == ".safetensors" else _pickled(path)
    for key in (None, *KEYS):
        held = found if key is None else found.get(key) if isinstance(found, Mapping) else None
        if isinstance(held, Mapping) and _holds_tensors(held):
            return Weights(held, key)
    held = ", ".join(map(str, list(found)[:10])) if isinstance(found, Mapping) else f"a {type(found).__name__}"
    raise BadRequest(
        f"{path.name} holds no state_dict: neither tensors by name, nor a checkpoint with one under "
        f"{', '.join(KEYS)}; it holds {held or 'nothing'}.",
        remedy="Save it with torch.save(model.state_dict(), file).",
    )


def _holds_tensors(held: Mapping[Any, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in held.values())


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as exc:
        raise CorruptModel(f"{path.name} is no complete safetensors file: {exc}", remedy=_SAVE_AGAIN) from exc


def _pickled(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise _program(path) or _unsafe(path, exc) from exc
    except (RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, OSError) as exc:
        raise _program(path) or CorruptModel(
            f"{path.name} cannot be read as weights: {type(exc).__name__}: {str(exc)[:400]}", remedy=_SAVE_AGAIN
        ) from exc


def _program(path: Path) -> FarmError | None:
    """Say that the file is a whole program where it is one: TorchScript, or an exported program."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None
    if "constants.pkl" not in names and not any(name.startswith("models/") for name in names):
        return None
    return UnknownFormat(
        f"{path.name} is a whole program of torch, not weights.", remedy="Submit it without a builder file."
    )


def _unsafe(path: Path, exc: Exception) -> FarmError:
    return UnsafeModel(
        f"{path.name} is a pickle that holds more than tensors, which could run code when it is loaded; it was not "
        f"loaded: {str(exc).splitlines()[-1][:300]}",
        remedy=_SAVE_PLAIN,
    )


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why weights are not the module's: names that it or they lack, and tensors of other sizes, in words."""

    missing: list[str]
    unexpected: list[str]
    sizes: list[str]

    def told(self, file: str, builder: str) -> BadRequest:
        """Name the first of each."""
        told = (
            listed("missing from it", self.missing),
            listed("unknown to the module", self.unexpected),
            listed("of other sizes", self.sizes),
        )
        return BadRequest(
            f"{file} does not fit the module that {builder} builds: {'; '.join(one for one in told if one)}.",
            remedy=f"Make {builder} build the module with the arguments it was trained with.",
            missing=self.missing[:50],
            unexpected=self.unexpected[:50],
            sizes=self.sizes[:50],
        )


def load_weights(module: torch.nn.Module, weights: Weights) -> Weights | Misfit:
    """Put the weights into the module, every one of them; runs the submitter's code, and raises nothing of ours.

    A prefix that all names share and the module does not know ("module." of DataParallel, "model." of a trainer) is
    dropped first.

    Returns: the weights as they fitted, or why they don't: missing or unexpected names, other sizes.
    """
    from torch.nn.parameter import is_lazy

    expected = module.state_dict()
    fitted = _without_prefix(weights, set(expected))
    sizes = [
        f"{name} is {_shape(tensor)} in the checkpoint and {_shape(expected[name])} in the module"
        for name, tensor in fitted.tensors.items()
        if name in expected and not is_lazy(expected[name]) and _shape(tensor) != _shape(expected[name])
    ]
    if sizes:
        missing = [name for name in expected if name not in fitted.tensors]
        return Misfit(missing, [name for name in fitted.tensors if name not in expected], sizes)
    answer = module.load_state_dict(fitted.tensors, strict=False)
    missing, unexpected = _not_tied(module, answer.missing_keys), list(answer.unexpected_keys)
    return Misfit(missing, unexpected, []) if missing or unexpected else fitted


def _shape(value: Any) -> Any:
    return tuple(value.shape) if hasattr(value, "shape") else None


def _without_prefix(weights: Weights, expected: set[str]) -> Weights:
    tensors, dropped = dict(weights.tensors), ""
    while tensors and not expected & set(tensors):
        heads = {name.partition(".")[0] for name in tensors}
        if len(heads) != 1 or not all("." in name for name in tensors):
            return weights
        head = f"{heads.pop()}."
        tensors, dropped = {name.removeprefix(head): tensor for name, tensor in tensors.items()}, dropped + head
    return Weights(tensors, weights.key, dropped)


def _not_tied(module: torch.nn.Module, missing: list[str]) -> list[str]:
    """Leave out names whose memory another, loaded name shares: safetensors keeps one of them."""
    state = module.state_dict()
    loaded = {tensor.data_ptr() for name, tensor in state.items() if name not in missing and tensor.numel()}
    return [name for name in missing if state[name].data_ptr() not in loaded]


def listed(what: str, names: list[str]) -> str:
    """Count the tensors that are `what`, and name the first `NAMED`; nothing where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:NAMED])}{more})"
