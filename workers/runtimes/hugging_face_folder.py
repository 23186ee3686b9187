"""Read what a Hugging Face folder says of itself, before transformers opens anything.

Source: transformers, PretrainedConfig (config.json), and safetensors' index of sharded weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.errors import CorruptModel, Incompatible, MissingFile, UnknownFormat, UnsafeModel

CONFIG = "config.json"
SAFETENSORS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_SAVE = "Save the folder again with model.save_pretrained(folder), and submit all of it."


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is complete: its configuration, and the files of its weights."""

    path: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]

    @property
    def is_pickle(self) -> bool:
        return self.weights[0].suffix == ".bin"

    @property
    def weights_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.weights)


def read_folder(path: Path) -> Folder:
    """Read config.json and find every file of the weights.

    Raises:
        MissingFile: no config.json, no weights, or a shard that is not there.
        UnsafeModel: the model's code is in the folder or on the hub.
        UnknownFormat: config.json names no model_type.
        Incompatible: weights that are quantized already.
        CorruptModel: a file that is no JSON.
    """
    if not (path / CONFIG).is_file():
        raise MissingFile(f"The folder has no {CONFIG}, which says what the model is.", remedy=_SAVE)
    config = _json(path / CONFIG)
    if "auto_map" in config:
        classes = ", ".join(str(name) for name in _values(config["auto_map"]))
        raise UnsafeModel(
            f"{CONFIG} asks for code of its own (auto_map: {classes[:300]}); code from a model's folder is never run.",
            remedy="Remove auto_map where a class of transformers computes the model; else export it to .pt2 or ONNX.",
        )
    if not isinstance(config.get("model_type"), str):
        raise UnknownFormat(f"{CONFIG} names no model_type, so transformers can't tell what it is.", remedy=_SAVE)
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, Mapping) else "unknown"
        raise Incompatible(
            f"The weights are quantized already ({method}); the farm starts from float ones.",
            remedy="Submit the float model, and ask for a recipe.",
        )
    return Folder(path, config, _weights(path))


def _values(told: object) -> list[object]:
    return list(told.values()) if isinstance(told, Mapping) else [told]


def _weights(path: Path) -> tuple[Path, ...]:
    for whole, index in ((SAFETENSORS, INDEX), (PICKLE, PICKLE_INDEX)):
        if (path / whole).is_file():
            return (path / whole,)
        if (path / index).is_file():
            return _shards(path, index)
    held = ", ".join(sorted(file.name for file in path.iterdir())[:10])
    raise MissingFile(f"The folder has {CONFIG}, but neither {SAFETENSORS} nor {INDEX}; it holds {held}.", remedy=_SAVE)


def _shards(path: Path, index: str) -> tuple[Path, ...]:
    placed = _json(path / index).get("weight_map")
    if not isinstance(placed, Mapping) or not placed:
        raise CorruptModel(f"{index} has no weight_map.", remedy=_SAVE)
    names = sorted({str(name) for name in placed.values()})
    if strange := [name for name in names if Path(name).name != name]:
        raise UnsafeModel(f"{index} names {strange[0]!r}, which is outside the folder.", remedy=_SAVE)
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise MissingFile(
            f"{len(missing)} of {len(names)} shards that {index} names are missing: {', '.join(missing[:5])}.",
            remedy=_SAVE,
        )
    return tuple(path / name for name in names)


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise CorruptModel(f"{path.name} is no JSON: {str(exc)[:300]}", remedy=_SAVE) from exc
    if not isinstance(told, dict):
        raise CorruptModel(f"{path.name} is no JSON object.", remedy=_SAVE)
    return told
