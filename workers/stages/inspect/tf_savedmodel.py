"""Inspect a TensorFlow SavedModel folder.

Tested with tensorflow-cpu 2.21.0. Source: TensorFlow, saved_model.proto and the security note on SavedModels
("models are programs"): the graph is scanned for operators that touch files or run Python before it is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel, CustomOperator, MissingFile, UnsafeModel
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import tree_size_bytes
from workers.runtimes.tensorflow import GRAPH_FILE, SavedModelSession, model_folder
from workers.stages.inspect.reading import DAMAGE
from workers.stages.wording import plain

UNSAFE = frozenset(
    (
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "WholeFileReader",
        "WholeFileReaderV2",
        "TextLineReader",
        "TextLineReaderV2",
        "TFRecordReader",
        "TFRecordReaderV2",
        "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2",
        "IdentityReader",
        "TextLineDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
        "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2",
        "SaveDataset",
        "SaveDatasetV2",
        "LoadDataset",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "CacheDataset",
        "CacheDatasetV2",
        "CSVDataset",
        "SqlDataset",
        "CreateSummaryFileWriter",
        "CreateSummaryDbWriter",
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "DebugIdentity",
        "DebugIdentityV2",
        "PrintV2",
        "RemoteCall",
        "RpcCall",
        "RpcClient",
        "RpcServer",
        "DataServiceDataset",
        "GeneratorDataset",
    )
)
"""Operators that read or write files, call Python or open connections. Those of saving and restoring variables are in
every SavedModel and are left out."""
_SAVER = "__inference__traced_"
"""How the functions are named that save and restore variables."""
_INDEX = "variables/variables.index"
RESAVE = "Save the model again with tf.saved_model.save and submit the whole folder."


@stage(
    name="inspect-tf-savedmodel",
    version="1",
    kind=Kind.INSPECT,
    source=Format.TF_SAVEDMODEL,
    environment="builder",
    tools=("tensorflow-cpu",),
    preload=("tensorflow",),
    timeout_s=180.0,
)
def run(given: StageInput) -> StageOutput:
    """Scan the graph, then load the SavedModel and read its signature.

    Returns: facts, the JSON of ModelFacts; `extra` names the signature.
    Raises: UnsafeModel, CustomOperator, CorruptModel, MissingFile; Incompatible without a usable signature.
    """
    path = given.files["model"]
    folder = model_folder(path)
    saved = _parse(folder / GRAPH_FILE)
    _refuse({node.op for node in _nodes(saved)}, saved)
    _check_variables(folder, saved)
    session = _load(folder)
    facts = ModelFacts(
        format=Format.TF_SAVEDMODEL,
        inputs=session.inputs,
        outputs=session.outputs,
        operators=dict(Counter(node.op for node in _nodes(saved, skip=_SAVER))),
        parameters=session.parameters,
        size_bytes=tree_size_bytes(path),
        producer=plain(f"tensorflow {saved.meta_graphs[0].meta_info_def.tensorflow_version}", limit=100),
        extra={"signature": session.signature},
    )
    return StageOutput(facts=encode(facts))


def _parse(file: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(file.read_bytes())
    except (DecodeError, *DAMAGE) as exc:
        raise CorruptModel(f"{GRAPH_FILE} is damaged: {plain(str(exc), limit=200)}.", remedy=RESAVE) from exc
    if not saved.meta_graphs:
        raise CorruptModel(f"{GRAPH_FILE} holds no graph.", remedy=RESAVE)
    return saved


def _nodes(saved: Any, *, skip: str | None = None) -> Iterator[Any]:
    """Yield the nodes of every graph and function, but of functions whose name starts with `skip`."""
    for meta in saved.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            if skip is None or not function.signature.name.startswith(skip):
                yield from function.node_def


def _refuse(operators: set[str], saved: Any) -> None:
    """Refuse operators that reach outside the model, and those that TensorFlow does not have.

    Raises:
        UnsafeModel, CustomOperator: naming all of them.
    """
    from tensorflow.python.framework import op_def_registry

    if unsafe := sorted(UNSAFE & operators):
        raise UnsafeModel(
            f"The SavedModel holds {', '.join(unsafe)}: it reads or writes files, or runs Python, when it is called.",
            remedy="Keep file access and Python functions out of the exported function.",
            operator=unsafe[0],
        )
    functions = {f.signature.name for meta in saved.meta_graphs for f in meta.graph_def.library.function}
    unknown = sorted(name for name in operators - functions if op_def_registry.get(name) is None)
    if unknown:
        raise CustomOperator(
            f"The SavedModel uses {plain(', '.join(unknown), limit=300)}, which TensorFlow itself does not have.",
            remedy="Replace custom operators with TensorFlow's own.",
            operator=unknown[0],
            domain="tensorflow",
        )


def _check_variables(folder: Path, saved: Any) -> None:
    """Hold the graph's variables against the files that store them.

    Raises:
        MissingFile: there are variables, and their index was not submitted.
    """
    stored = any(node.op in ("VarHandleOp", "VariableV2") for node in _nodes(saved))
    if stored and not (folder / _INDEX).is_file():
        raise MissingFile(f"The SavedModel has variables, but not the file {_INDEX} that stores them.", remedy=RESAVE)


def _load(folder: Path) -> SavedModelSession:
    import tensorflow as tf

    try:
        return SavedModelSession(folder)
    except (tf.errors.NotFoundError, FileNotFoundError) as exc:
        raise MissingFile(f"The SavedModel lacks a file: {plain(str(exc), limit=300)}", remedy=RESAVE) from exc
    except (tf.errors.OpError, *DAMAGE) as exc:
        raise CorruptModel(
            f"TensorFlow does not load the SavedModel: {plain(str(exc), limit=300)}", remedy=RESAVE
        ) from exc
