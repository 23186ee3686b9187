"""Inspect Keras models: .keras archives and legacy HDF5 files.

Tested with keras 3.15.1 and h5py 3.14.0. Source: Keras, saving format v3 and legacy H5 format.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel, CustomOperator, UnknownFormat, UnsafeModel
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file, tree_size_bytes
from workers.runtimes.keras import H5_SUFFIXES, KERAS_SUFFIXES, KerasSession, is_hdf5
from workers.stages.inspect.reading import DAMAGE
from workers.stages.wording import plain

RESAVE = "Save the model again with model.save('model.keras') and check that the copy is complete."
_CONFIG = "config.json"
_UNKNOWN = re.compile(r"(?:Could not locate \w+|Unknown \w+:?) '([^']+)'")


@stage(
    name="inspect-keras",
    version="1",
    kind=Kind.INSPECT,
    source=Format.KERAS,
    environment="builder",
    tools=("keras", "tensorflow-cpu"),
    preload=("tensorflow", "keras"),
    timeout_s=180.0,
)
def run(given: StageInput) -> StageOutput:
    """Scan the configuration for code, then load the model in safe mode.

    Returns: facts, the JSON of ModelFacts; `operators` counts layers by class.
    Raises: UnsafeModel, CustomOperator, CorruptModel; Incompatible for a subclassed model.
    """
    path = given.files["model"]
    config = _zip_config(entry_file(path, KERAS_SUFFIXES))
    return StageOutput(facts=encode(_facts(path, config, Format.KERAS)))


@stage(
    name="inspect-keras-h5",
    version="1",
    kind=Kind.INSPECT,
    source=Format.KERAS_H5,
    environment="builder",
    tools=("keras", "tensorflow-cpu", "h5py"),
    preload=("tensorflow", "keras"),
    timeout_s=180.0,
)
def run_h5(given: StageInput) -> StageOutput:
    """Do the same for a legacy HDF5 file, which must hold the model, not only weights."""
    path = given.files["model"]
    config = _h5_config(entry_file(path, H5_SUFFIXES))
    return StageOutput(facts=encode(_facts(path, config, Format.KERAS_H5)))


def _facts(path: Path, config: Any, kind: Format) -> ModelFacts:
    _refuse(list(_objects(config)))
    session = _load(path)
    model = session.model
    return ModelFacts(
        format=kind,
        inputs=session.inputs,
        outputs=session.outputs,
        operators=dict(Counter(type(layer).__name__ for layer in model._flatten_layers(include_self=False))),
        parameters=int(model.count_params()),
        size_bytes=tree_size_bytes(path),
        producer="keras",
        extra={"model_class": plain(type(model).__name__, limit=100)},
    )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield everything the configuration would build."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)


def _refuse(objects: list[dict[str, Any]]) -> None:
    """Refuse Python code and classes that are not Keras's own, before anything is built.

    Raises:
        UnsafeModel, CustomOperator
    """
    if any(item["class_name"] in ("Lambda", "__lambda__") for item in objects):
        raise UnsafeModel(
            "The Keras model holds a Lambda, which is Python code; it was not loaded.",
            remedy="Replace Lambda layers with Keras layers or keras.ops, or submit model.export('folder').",
            operator="Lambda",
        )
    custom = sorted({str(item["registered_name"]) for item in objects if _is_custom(item)})
    if custom:
        raise _custom(custom[0])


def _is_custom(item: dict[str, Any]) -> bool:
    """Tell whether an entry names a class of the submitter's own; Keras notes where each class is registered."""
    module = str(item.get("module") or "")
    return isinstance(item.get("registered_name"), str) and module != "keras" and not module.startswith("keras.")


def _custom(name: str) -> CustomOperator:
    package, _, operator = name.rpartition(">")
    return CustomOperator(
        f"The Keras model uses {plain(name, limit=200)}, which Keras itself does not have.",
        remedy="Replace custom layers with Keras's own, or submit model.export('folder') as a SavedModel.",
        operator=operator,
        domain=package or "keras",
    )


def _zip_config(entry: Path) -> Any:
    if is_hdf5(entry):
        raise UnknownFormat(f"{entry.name} is an HDF5 file, not a .keras archive.", remedy="Rename it to end in .h5.")
    try:
        with zipfile.ZipFile(entry) as archive:
            return json.loads(archive.read(_CONFIG))
    except KeyError as exc:
        raise CorruptModel(f"{entry.name} is a zip archive without {_CONFIG}.", remedy=RESAVE) from exc
    except DAMAGE as exc:
        raise CorruptModel(f"{entry.name} is not a complete .keras archive: {exc}.", remedy=RESAVE) from exc


def _h5_config(entry: Path) -> Any:
    import h5py

    try:
        with h5py.File(entry, "r") as file:
            config = file.attrs.get("model_config")
            names = sorted(file)
        if config is not None:
            return json.loads(config)
    except DAMAGE as exc:
        raise CorruptModel(f"{entry.name} is not a complete HDF5 file: {plain(str(exc))}.", remedy=RESAVE) from exc
    raise UnknownFormat(
        f"{entry.name} holds weights only ({plain(', '.join(names[:5]), limit=200)}), without the model.",
        remedy="Save the whole model: model.save('model.keras').",
    )


def _load(path: Path) -> KerasSession:
    try:
        return KerasSession(path)
    except DAMAGE as exc:
        raise _refusal(str(exc)) from exc


def _refusal(message: str) -> Exception:
    text = plain(message, limit=500)
    if found := _UNKNOWN.search(message):
        return _custom(found[1])
    if "safe_mode" in message or "unsafe" in message.lower() or "not allowed" in message.lower():
        return UnsafeModel(
            f"The Keras model asks to run code: {text}",
            remedy="Replace Lambda layers and Python functions with Keras layers.",
        )
    return CorruptModel(f"Keras does not load the model: {text}", remedy=RESAVE)
