"""What can be done here: stages, runtimes, targets. The only importer of workers.stages and workers.runtimes."""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePosixPath

from farm.domain.artifact import Artifact
from farm.domain.catalogue import Catalogue, LiveHost, Target
from farm.domain.errors import UnknownFormat
from farm.domain.facts import Format
from farm.domain.stage import Kind, StageSpec
from farm.domain.wanted import World
from hardware_profiles.loader import load_profiles
from hardware_profiles.schema import Profile
from workers import environments
from workers.runtimes import load_runtimes, reference_model
from workers.stages import load_specs

DATA_INSPECTORS = {".npz": "inspect-npz", ".zip": "inspect-pictures"}
"""By the ending of a data file: arrays, or a folder of pictures as one file."""
_BY_SUFFIX = {
    ".ckpt": Format.TORCH_STATE_DICT,
    ".safetensors": Format.TORCH_STATE_DICT,
    ".pt2": Format.TORCH_EXPORTED_PROGRAM,
    ".pt": Format.TORCHSCRIPT,
    ".pth": Format.TORCHSCRIPT,
    ".jit": Format.TORCHSCRIPT,
    ".torchscript": Format.TORCHSCRIPT,
    ".onnx": Format.ONNX,
    ".ort": Format.ORT,
    ".pte": Format.EXECUTORCH,
    ".tflite": Format.TFLITE,
    ".keras": Format.KERAS,
    ".h5": Format.KERAS_H5,
    ".hdf5": Format.KERAS_H5,
    ".xml": Format.OPENVINO_IR,
}
_WEIGHTS = {".pt", ".pth", ".ckpt", ".safetensors", ".bin"}


@cache
def catalogue() -> Catalogue:
    names = environments.names()
    return Catalogue(
        specs=load_specs(),
        accepts={r.name: tuple(r.accepts) for r in load_runtimes().values() if r.deployable},
        pins={name: environments.pins(name) for name in names},
        locks={name: environments.lock_digest(name) for name in names},
    )


@cache
def targets() -> dict[str, Target]:
    return {name: _target(profile) for name, profile in load_profiles().items()}


@cache
def profiles() -> dict[str, Profile]:
    return load_profiles()


def self_test_model(runtime: str) -> Path:
    """Name the pinned file that a host measures under a runtime to test itself."""
    return reference_model.self_test_model(runtime)


def world(hosts: tuple[LiveHost, ...]) -> World:
    return World(catalogue(), targets(), hosts)


def by_ending(name: str) -> Format | None:
    """Tell the format that files of an ending have; of `model.pt2`, `.pt2` and `pt2` alike. None where none has it."""
    return _BY_SUFFIX.get(f".{PurePosixPath(name).name.rpartition('.')[2].lower()}")


def source_format(file_name: str, artifact: Artifact) -> Format:
    """Tell a model's format from its names; what is inside is for inspection to say.

    Raises:
        UnknownFormat: no format has such a name.
    """
    names = [file_name, *(f.name for f in artifact.files)]
    if any(PurePosixPath(name).name == "saved_model.pb" for name in names):
        return Format.TF_SAVEDMODEL
    told = _by_companion(names) if artifact.is_tree else None
    if told is not None:
        return told
    for name in names:
        found = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower())
        if found is not None:
            return found
    known = ", ".join(sorted(_BY_SUFFIX))
    raise UnknownFormat(
        f"{file_name} has no known model format; known endings are {known}, and folders with saved_model.pb, "
        "config.json (Hugging Face), or weights and the .py file that builds their module.",
        remedy="Rename the file to what it is, or export the model to one of these formats.",
    )


def _by_companion(names: list[str]) -> Format | None:
    """Tell a folder by the file that stands beside the weights."""
    suffixes = {PurePosixPath(name).suffix.lower() for name in names}
    other = suffixes & (set(_BY_SUFFIX) - _WEIGHTS)
    if "config.json" in names and not other:
        return Format.HUGGING_FACE
    return Format.TORCH_STATE_DICT if ".py" in suffixes and not other else None


def inspector(fmt: Format) -> StageSpec:
    """Find the stage that inspects a format.

    Raises:
        UnknownFormat: nothing here reads it.
    """
    spec = catalogue().of_kind(Kind.INSPECT, source=fmt)
    if spec is None:
        raise UnknownFormat(f"Nothing here inspects models of format {fmt}.", remedy="See `farm routes`.")
    return spec


def data_inspector(data: Artifact) -> StageSpec:
    """Find the stage that reads a data file; a file of another ending is read as .npz, and refused there."""
    suffix = PurePosixPath(data.files[0].name).suffix.lower()
    return catalogue().specs[DATA_INSPECTORS.get(suffix, DATA_INSPECTORS[".npz"])]


def _target(profile: Profile) -> Target:
    fields = profile.model_dump(mode="json")
    threads = fields.get("measurement", {}).get("threads") or [1]
    runtimes = {name: runtime["environment"] for name, runtime in fields.get("runtimes", {}).items()}
    return Target(profile.name, profile.architecture, runtimes, fields, threads[0])
