"""Run TensorFlow SavedModels with TensorFlow itself, on hosts and on builders.

Tested with tensorflow-cpu 2.21.0. Source: TensorFlow, saved_model.proto and `tf.compat.v1.saved_model.load`.
The session loader is used: it needs only graph and signature, while `tf.saved_model.load` also revives objects, which
fails on SavedModels that Keras 2 wrote with an optimizer. The signature `serving_default` is taken, or the only one.
Limits: `threads` bounds what one operator uses; a graph that holds StableHLO (XlaCallModule) is compiled at its first
call, which therefore takes long.
"""

from __future__ import annotations

import math
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
SERVING = "serve"
_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


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
    """One signature of a SavedModel in a session of its own graph; tensors are ordered by name."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import tensorflow as tf

        tf1 = tf.compat.v1
        config = tf1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)
        self._session = tf1.Session(graph=tf.Graph(), config=config)
        loaded = tf1.saved_model.load(self._session, [SERVING], str(model_folder(path)))
        self.signature = choose_signature(loaded.signature_def)
        chosen = loaded.signature_def[self.signature]
        self._names = {key: info.name for key, info in chosen.inputs.items()}
        self._fetches = {key: info.name for key, info in chosen.outputs.items()}
        self.inputs = _specs(chosen.inputs)
        self.outputs = _specs(chosen.outputs)

    @property
    def parameters(self) -> int:
        """Count the elements of the variables that the signature's outputs depend on."""
        graph = self._session.graph
        waiting = [graph.get_tensor_by_name(name).op for name in self._fetches.values()]
        seen = {op.name for op in waiting}
        total = 0
        while waiting:
            op = waiting.pop()
            if op.type in _VARIABLES:
                total += math.prod(axis.size for axis in op.get_attr("shape").dim)
            inputs = {tensor.op.name: tensor.op for tensor in op.inputs if tensor.op.name not in seen}
            seen |= inputs.keys()
            waiting += inputs.values()
        return total

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        results = self._session.run(self._fetches, {self._names[key]: array for key, array in feeds.items()})
        return {spec.name: results[spec.name] for spec in self.outputs}


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Order by name: a signature is a mapping whose order differs from one loading to the next."""
    return tuple(_spec(name, tensors[name]) for name in sorted(tensors))


def _spec(name: str, info: Any) -> TensorSpec:
    """Read a TensorInfo: an axis of -1 is open."""
    import tensorflow as tf

    dtype = tf.dtypes.as_dtype(info.dtype).name
    if info.tensor_shape.unknown_rank:
        return TensorSpec(name, dtype, None)
    shape: tuple[Axis, ...] = tuple(int(axis.size) if axis.size >= 0 else "?" for axis in info.tensor_shape.dim)
    return TensorSpec(name, dtype, shape)


def refusals() -> tuple[type[Exception], ...]:
    import tensorflow as tf

    return tf.errors.OpError, RuntimeError, ValueError


RUNTIME = Runtime(
    name="tensorflow",
    accepts=(Format.TF_SAVEDMODEL,),
    environment="builder",
    tools=("tensorflow-cpu",),
    preload=("tensorflow",),
    deployable=True,
    load=SavedModelSession,
    refusals=refusals,
)
