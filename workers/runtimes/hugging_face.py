"""Run a Hugging Face folder through transformers, offline, as the source's float reference.

Tested with transformers 5.23.0, torch 2.13.0, safetensors 0.8.0.
Source: transformers, PreTrainedModel.from_pretrained and ModelOutput.
Limits: float32, whatever the folder stores; a cache of keys and values only as hugging_face_cache.py has it; the
model's own code only, never the folder's.
"""

from __future__ import annotations

import difflib
import inspect
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadRequest, CorruptModel, Incompatible, UnknownFormat, UnsafeModel
from farm.domain.facts import Axis, Format, TensorSpec
from workers.runtimes import Runtime
from workers.runtimes.hugging_face_cache import CachedStep, StaticCache, asked_cache
from workers.runtimes.hugging_face_folder import Folder, read_folder
from workers.runtimes.torch_modules import ModuleSession
from workers.runtimes.torch_state_dict_weights import listed

if TYPE_CHECKING:
    import torch

ATTENTION = "eager"
"""The attention that every exporter takes."""
_SAVE_AGAIN = "Save the folder again with model.save_pretrained(folder), and check that the copy is complete."
_DECODER = "decoder_input_ids"


@dataclass(frozen=True, slots=True)
class Kind:
    """The class of transformers that a folder asks for, its configuration, and its inputs with open axes.

    With a `cache` it is one step of a decoder, and no axis is open.
    """

    folder: Folder
    model: Any
    config: Any
    inputs: tuple[TensorSpec, ...]
    cache: StaticCache | None = None

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Say which values token ids may have."""
        size = getattr(self.config.get_text_config(), "vocab_size", None)
        names = ("input_ids", _DECODER) if isinstance(size, int) and size > 0 else ()
        ids = {spec.name: (0.0, float(size - 1)) for spec in self.inputs if spec.name in names and size}
        return ids | (self.cache.ranges if self.cache else {})


def read_kind(path: Path) -> Kind:
    """Tell a folder's class and inputs from config.json alone.

    Raises:
        FarmError: see read_folder; UnknownFormat for a model_type or class that transformers lacks; CorruptModel for
            a configuration that does not read; Incompatible for inputs that nothing here can make.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    folder = read_folder(path)
    name = folder.config["model_type"]
    if name not in CONFIG_MAPPING:
        near = difflib.get_close_matches(name, list(CONFIG_MAPPING), n=3)
        raise UnknownFormat(
            f"transformers {transformers.__version__} knows no model_type {name!r}"
            + (f"; the nearest are {', '.join(near)}." if near else "."),
            remedy="Export the model to .pt2 or ONNX where its code is installed, and submit that.",
        )
    try:
        config = CONFIG_MAPPING[name].from_dict(dict(folder.config))
    except (ValueError, TypeError, LookupError, AttributeError) as exc:
        raise CorruptModel(f"config.json does not read as {name}: {str(exc)[:500]}", remedy=_SAVE_AGAIN) from exc
    model = _class(config)
    cache = asked_cache(path, model, config)
    return Kind(folder, model, config, cache.inputs if cache else _inputs(model, config), cache)


def _class(config: Any) -> Any:
    """Find the class that config.json names first; the bare model of the type when it names none."""
    import transformers

    named = [str(name) for name in config.architectures or ()]
    if not named:
        mapping = transformers.AutoModel._model_mapping
        return mapping[type(config)]
    found = getattr(transformers, named[0], None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise UnknownFormat(
            f"transformers {transformers.__version__} has no class {named[0]!r}, which config.json names.",
            remedy="Export the model to .pt2 or ONNX where its code is installed, and submit that.",
        )
    return found


def _inputs(model: Any, config: Any) -> tuple[TensorSpec, ...]:
    taken = inspect.signature(model.forward).parameters
    main = str(model.main_input_name)
    if main == "input_ids":
        text = ("batch", "sequence")
        found = [TensorSpec(main, "int64", text)]
        if "attention_mask" in taken:
            found.append(TensorSpec("attention_mask", "int64", text))
        if config.is_encoder_decoder and _DECODER in taken:
            found.append(TensorSpec(_DECODER, "int64", ("batch", "decoder_sequence")))
        if "pixel_values" in taken and hasattr(config, "vision_config"):
            found.append(_pixels(config.vision_config))
        return tuple(found)
    if main == "pixel_values":
        return (_pixels(getattr(config, "vision_config", config)),)
    if main == "input_values":
        return (TensorSpec(main, "float32", ("batch", "samples")),)
    if main == "input_features":
        found = [TensorSpec(main, "float32", ("batch", getattr(config, "num_mel_bins", "features"), "frames"))]
        if config.is_encoder_decoder:
            found.append(TensorSpec(_DECODER, "int64", ("batch", "decoder_sequence")))
        return tuple(found)
    raise Incompatible(
        f"{model.__name__} takes {main!r}, which the farm has no way to make.",
        remedy="Export the model to .pt2 or ONNX, and submit that.",
    )


def _pixels(config: Any) -> TensorSpec:
    size = getattr(config, "image_size", None)
    height: Axis = "height"
    width: Axis = "width"
    if isinstance(size, int):
        height = width = size
    elif isinstance(size, (list, tuple)) and len(size) == 2:
        height, width = (int(one) for one in size)
    return TensorSpec("pixel_values", "float32", ("batch", getattr(config, "num_channels", 3), height, width))


def load_folder(path: Path) -> tuple[ModuleSession, Kind, tuple[str, ...]]:
    """Load the weights into transformers' own class, in float32.

    Returns: the session, what the folder is, and the names of weights that the class has no use for.
    Raises: FarmError: see read_kind; UnsafeModel for a pickle with code; CorruptModel for damaged weights; BadRequest
        for weights that lack tensors of the class, or have other sizes.
    """
    kind = read_kind(path)
    module, told = _loaded(kind)
    wrong = [
        listed("missing", sorted(told["missing_keys"])),
        listed("of another size", sorted(str(one[0]) for one in told["mismatched_keys"])),
    ]
    if any(wrong):
        raise BadRequest(
            f"The weights do not fit {kind.model.__name__}, which config.json names: "
            f"{'; '.join(one for one in wrong if one)}.",
            remedy="Name in config.json's architectures the class that the weights were saved from.",
        )
    names = tuple(spec.name for spec in kind.inputs)
    call = CachedStep(module, kind.cache) if kind.cache else _Call(module, names)
    session = ModuleSession(module, kind.inputs, call=call)
    return session, kind, tuple(sorted(told["unexpected_keys"]))


def _loaded(kind: Kind) -> tuple[Any, Mapping[str, Any]]:
    import torch
    from safetensors import SafetensorError

    try:
        module, told = kind.model.from_pretrained(
            str(kind.folder.path),
            config=kind.config,
            local_files_only=True,
            use_safetensors=not kind.folder.is_pickle,
            weights_only=True,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except pickle.UnpicklingError as exc:
        raise UnsafeModel(
            f"{kind.folder.weights[0].name} is a pickle that holds more than tensors, which could run code when it is "
            f"loaded; it was not loaded: {str(exc).splitlines()[-1][:300]}",
            remedy="Save the model with save_pretrained(folder), which writes safetensors.",
        ) from exc
    except (SafetensorError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError) as exc:
        raise CorruptModel(
            f"transformers does not load the folder as {kind.model.__name__}: {type(exc).__name__}: {str(exc)[:500]}",
            remedy=_SAVE_AGAIN,
        ) from exc
    return module, told


class _Call:
    """Call a model of transformers by position, without caches; give the tensors of its output by name."""

    def __init__(self, module: Any, names: tuple[str, ...]) -> None:
        self._module, self._names = module, names
        taken = inspect.signature(module.forward).parameters
        self._fixed = {"use_cache": False} if "use_cache" in taken or hasattr(module.config, "use_cache") else {}

    def __call__(self, *arguments: torch.Tensor) -> dict[str, torch.Tensor]:
        import torch

        found = self._module(**dict(zip(self._names, arguments, strict=True)), **self._fixed, return_dict=True)
        return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def load(path: Path, *, threads: int = 1) -> ModuleSession:
    import torch

    torch.set_num_threads(threads)
    return load_folder(path)[0]


def refusals() -> tuple[type[Exception], ...]:
    return RuntimeError, ValueError, TypeError, LookupError


RUNTIME = Runtime(
    name="hugging-face",
    accepts=(Format.HUGGING_FACE,),
    environment="builder",
    tools=("transformers", "torch", "safetensors"),
    preload=("torch", "transformers", "safetensors.torch"),
    deployable=False,
    load=load,
    refusals=refusals,
)
