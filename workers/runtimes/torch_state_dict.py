"""Run a torch state_dict with the Python file that builds its module, as the source's float reference.

Tested with torch 2.13.0. Source: PyTorch, torch.nn.Module; the builder's convention is in torch_state_dict_builder.py.
Limits: inputs are tensors, given by position; what the file does not say of them stays unknown until --input says it.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadRequest, MissingFile
from farm.domain.facts import Axis, Format, TensorSpec
from farm.domain.inputs import DTYPES, UNKNOWN_DTYPE
from workers.runtimes import Runtime
from workers.runtimes.files import entry_file
from workers.runtimes.torch_modules import ModuleSession
from workers.runtimes.torch_state_dict_builder import BUILD_LIMIT_S, Builder, UserCode, build_module, run_builder
from workers.runtimes.torch_state_dict_weights import WEIGHTS, Misfit, Weights, load_weights, read_weights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

ADD_BUILDER = (
    "Add --builder FILE.py (SDK builder=, job file builder = …): a Python file whose build() returns the "
    "torch.nn.Module that the weights belong to; or submit a folder that holds both."
)
_SPEC = re.compile(r"(?P<name>.+):(?P<dtype>[a-z0-9]+)\[(?P<shape>[^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Built:
    """A module with its weights, and how it came about; `ranges` are what an input may hold, ends included."""

    session: ModuleSession
    builder: Builder
    path: Path
    weights: Weights
    file: str
    ranges: Mapping[str, tuple[float, float]]


class BuiltSession(ModuleSession):
    """A module of the submitter's: whatever its forward raises is told with its line."""

    def __init__(self, module: torch.nn.Module, inputs: tuple[TensorSpec, ...], path: Path) -> None:
        super().__init__(module, inputs)
        self._path = path

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Infer once.

        Raises:
            BadRequest: forward() raises on these inputs.
        """
        given = ", ".join(f"{name}:{array.dtype}{list(array.shape)}" for name, array in feeds.items())
        with UserCode(self._path, f"forward() on {given}", limit_s=0):
            return super().run(feeds)


def find_files(path: Path) -> tuple[Path, Path]:
    """Return the weights and the builder file.

    Raises:
        MissingFile: one of them is not there; says which option brings it.
        CorruptModel: there are several of a kind.
    """
    if not path.is_dir():
        raise MissingFile(
            f"{path.name} holds weights only; the Python file that builds the module is missing.", remedy=ADD_BUILDER
        )
    if not [file for file in path.iterdir() if file.suffix == ".py"]:
        remedy = f"{ADD_BUILDER} A Hugging Face model needs its config.json beside the weights."
        held = ", ".join(sorted(file.name for file in path.iterdir())[:10])
        raise MissingFile(
            f"The folder holds weights, but no Python file that builds the module: {held}.", remedy=remedy
        )
    return entry_file(path, WEIGHTS), entry_file(path, (".py",))


def load_built(path: Path, *, limit_s: float = BUILD_LIMIT_S) -> Built:
    """Build the module, load the weights and read what the file says of inputs.

    Raises:
        FarmError: see find_files, run_builder, build_module, read_weights; BadRequest for weights that do not fit,
            and for INPUTS, RANGES or example_inputs() that do not read.
    """
    file, code = find_files(path)
    weights = read_weights(file)
    builder = run_builder(code, limit_s=limit_s)
    module = build_module(code, builder, limit_s=limit_s)
    with UserCode(code, "loading the weights", limit_s=limit_s):
        fitted = load_weights(module, weights)
        module.eval()
    if isinstance(fitted, Misfit):
        raise fitted.told(file.name, code.name)
    inputs = _inputs(code, builder, module, limit_s)
    ranges = _ranges(builder, inputs)
    with UserCode(code, "eval() and requires_grad_()", limit_s=limit_s):
        session = BuiltSession(module, inputs, code)
    return Built(session, builder, code, fitted, file.name, ranges)


def _inputs(code: Path, builder: Builder, module: torch.nn.Module, limit_s: float) -> tuple[TensorSpec, ...]:
    """Read the inputs from INPUTS, else from example_inputs(), else their names from forward."""
    if "INPUTS" in builder.names:
        return _listed(code, builder.names["INPUTS"])
    names = _parameters(module)
    if callable(builder.names.get("example_inputs")):
        with UserCode(code, "example_inputs()", limit_s=limit_s):
            example = builder.names["example_inputs"]()
        return _examples(code, example, names or [])
    if names is None:
        raise BadRequest(
            f"{code.name}: the arguments of forward() can't be read from the {type(module).__name__} that "
            f"{builder.entry} gave.",
            remedy=f'Name its inputs in {code.name}: INPUTS = ["image:float32[1,3,224,224]"].',
        )
    return tuple(TensorSpec(name, UNKNOWN_DTYPE, None) for name in names)


def _parameters(module: torch.nn.Module) -> list[str] | None:
    """Name the arguments of forward that have no default; None where it tells no signature, as of a script module."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        found = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError, AttributeError):
        return None
    return [one.name for one in found if one.kind in by_position and one.default is one.empty]


def _listed(code: Path, told: object) -> tuple[TensorSpec, ...]:
    """Read INPUTS: a text of the form NAME:DTYPE[D,D,…], or a list of them."""
    texts = [told] if isinstance(told, str) else told
    if not isinstance(texts, (list, tuple)):
        raise BadRequest(
            f"{code.name}: INPUTS is of type {type(told).__name__}, not a list of texts of the form NAME:DTYPE[D,D,…].",
            remedy='For example INPUTS = ["image:float32[1,3,224,224]"].',
        )
    return tuple(_spec(code, text) for text in texts)


def _spec(code: Path, text: object) -> TensorSpec:
    found = _SPEC.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found or found["dtype"] not in DTYPES:
        raise BadRequest(
            f"{code.name}: INPUTS holds {text!r}, which is not of the form NAME:DTYPE[D,D,…].",
            remedy='For example INPUTS = ["image:float32[1,3,224,224]"]; a word for a size leaves an axis open.',
        )
    sizes = [size.strip() for size in found["shape"].split(",") if size.strip()]
    shape: tuple[Axis, ...] = tuple(int(size) if size.isdecimal() else size for size in sizes)
    return TensorSpec(found["name"], found["dtype"], shape)


def _examples(code: Path, example: object, names: list[str]) -> tuple[TensorSpec, ...]:
    import torch

    if isinstance(example, Mapping):
        tensors = {str(name): example[name] for name in sorted(example, key=lambda n: _place(names, n))}
    else:
        listed = list(example) if isinstance(example, (tuple, list)) else [example]
        named = names if len(names) == len(listed) else [f"input_{at}" for at in range(len(listed))]
        tensors = dict(zip(named, listed, strict=True))
    wrong = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
    if wrong or not tensors:
        raise BadRequest(
            f"{code.name}: example_inputs() gave {', '.join(wrong) or 'nothing'} that is no tensor.",
            remedy="Return a tensor, a tuple of tensors, or a dict of tensors by the names of forward's arguments.",
        )
    return tuple(
        TensorSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in tensors.items()
    )


def _place(names: list[str], name: object) -> int:
    return names.index(str(name)) if name in names else len(names)


def _ranges(builder: Builder, inputs: tuple[TensorSpec, ...]) -> dict[str, tuple[float, float]]:
    """Read RANGES = {"ids": (0, 999)}.

    Raises:
        BadRequest: it has another form, or names no input.
    """
    told = builder.names.get("RANGES", {})
    fits = isinstance(told, Mapping) and all(
        isinstance(span, (tuple, list))
        and len(span) == 2
        and all(isinstance(end, (int, float)) and math.isfinite(end) for end in span)
        and span[0] <= span[1]
        for span in told.values()
    )
    if not fits:
        raise BadRequest(
            f"{builder.file}: RANGES is not of the form {{'NAME': (LOWEST, HIGHEST)}}.",
            remedy="For example RANGES = {'ids': (0, 999)}.",
        )
    names = [spec.name for spec in inputs]
    if strange := [str(name) for name in told if str(name) not in names]:
        raise BadRequest(
            f"{builder.file}: RANGES names {', '.join(strange)}; the inputs are {', '.join(names) or 'not known'}.",
            remedy="Name inputs in RANGES as INPUTS, example_inputs() or forward() do.",
        )
    return {str(name): (float(low), float(high)) for name, (low, high) in told.items()}


def load(path: Path, *, threads: int = 1) -> ModuleSession:
    import torch

    torch.set_num_threads(threads)
    return load_built(path).session


def refusals() -> tuple[type[Exception], ...]:
    return RuntimeError, ValueError, TypeError, LookupError


RUNTIME = Runtime(
    name="torch-state-dict",
    accepts=(Format.TORCH_STATE_DICT,),
    environment="builder",
    tools=("torch", "safetensors"),
    preload=("torch", "safetensors.torch"),
    deployable=False,
    load=load,
    refusals=refusals,
)
