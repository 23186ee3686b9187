"""Run TensorFlow SavedModels on a builder, as the source's float reference.

Tested with tensorflow-cpu 2.21.0. Source: TensorFlow, `tf.saved_model.load` and its signatures.
The signature `serving_default` is taken, or the only one; TensorFlow chooses its threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import Incompatible, MissingFile
from farm.domain.facts import Axis, Format, TensorSpec
from workers.runtimes import Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAPH_FILE = "saved_model.pb"
DEFAULT_SIGNATURE = "serving_default"


def model_folder(path: Path) -> Path:
    """Return the folder that holds saved_model.pb: `path` or one folder inside it.

    Raises:
        MissingFile: none does.
    """
    found = [path] if (path / GRAPH_FILE).is_file() else sorted(file.parent for file in path.glob(f"*/{GRAPH_FILE}"))
    if not found:
        raise MissingFile(
            f"{path.name} holds no {GRAPH_FILE}.", remedy="Submit the folder that tf.saved_model.save wrote."
        )
    return found[0]


def choose_signature(names: Iterable[str]) -> str:
    """Return the signature that is run.

    Raises:
        Incompatible: there is none, or several and none is the default.
    """
    known = sorted(name for name in names if not name.startswith("__"))
    if DEFAULT_SIGNATURE in known or len(known) == 1:
        return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in known else known[0]
    raise Incompatible(
        f"The SavedModel has {', '.join(known) or 'no'} signature{'s' if known else ''}, and no {DEFAULT_SIGNATURE}.",
        remedy=f"Save it with signatures={{'{DEFAULT_SIGNATURE}': function}}.",
    )


class SavedModelSession:
    """One signature of a loaded SavedModel."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import tensorflow as tf

        self._model = tf.saved_model.load(str(model_folder(path)))
        self.signature = choose_signature(self._model.signatures)
        self._call = self._model.signatures[self.signature]
        self.inputs = _specs(self._call.structured_input_signature[1])
        self.outputs = _specs(self._call.structured_outputs)
        self.parameters = sum(int(variable.shape.num_elements() or 0) for variable in self._call.variables)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import tensorflow as tf

        results = self._call(**{name: tf.constant(array) for name, array in feeds.items()})
        return {spec.name: results[spec.name].numpy() for spec in self.outputs}


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Order by name: the signature is a mapping whose order differs from one loading to the next."""
    return tuple(_spec(name, tensors[name]) for name in sorted(tensors))


def _spec(name: str, spec: Any) -> TensorSpec:
    if spec.shape.rank is None:
        return TensorSpec(name, spec.dtype.name, None)
    shape: tuple[Axis, ...] = tuple("?" if size is None else int(size) for size in spec.shape)
    return TensorSpec(name, spec.dtype.name, shape)


RUNTIME = Runtime(
    name="tf-savedmodel",
    accepts=(Format.TF_SAVEDMODEL,),
    environment="builder",
    tools=("tensorflow-cpu",),
    preload=("tensorflow",),
    deployable=False,
    load=SavedModelSession,
)
