"""Read a folder of pictures and make the .npz of it that the model's own inputs are fed from.

The declared preprocessing is carried out here, once for every target and recipe; what is told of the arrays is the same
as of an .npz that a user submits.
Source: see workers/stages/pictures.py and picture_archives.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from farm.domain.inputs import LABELS
from farm.domain.preprocessing import Preprocessing, declared
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.inspect.npz import described
from workers.stages.npz import NpzReader, NpzWriter
from workers.stages.picture_archives import Labels, PictureArchive, padded_boxes
from workers.stages.pictures import Placing, open_picture, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(
    name="inspect-pictures",
    version="1",
    kind=Kind.INSPECT,
    environment="builder",
    tools=("pillow", "numpy"),
    preload=("numpy", "PIL.Image", "PIL.ImageOps"),
    timeout_s=1800.0,
)
def run(given: StageInput) -> StageOutput:
    """Decode every picture, prepare it as declared, and describe what comes out.

    Args:
        given: files["model"], a .zip as picture_archives.py describes it.
    Returns: data.npz with the declared input (N, …) and `labels`; facts as of inspect-npz, and {"preprocessing", in
        full, "pictures"}.
    Raises: BadData, TooLarge, MissingFile, BadRequest: files, labels or declaration are at fault.
    """
    target = given.work / "data.npz"
    with PictureArchive(given.files["model"], what="data") as archive:
        wanted = archive.preprocessing()
        labels = archive.labels(wanted.classes)
        placings = _write(archive, wanted, labels, target)
    with NpzReader(target) as data:
        arrays = described(data)
    facts = {"arrays": arrays, "samples": len(placings), "preprocessing": declared(wanted), "pictures": len(placings)}
    return StageOutput(files={"data": target}, facts=facts)


def _write(archive: PictureArchive, wanted: Preprocessing, labels: Labels | None, target: Path) -> dict[str, Placing]:
    writer, placings, count = NpzWriter(target), {}, len(archive.pictures)
    shape: tuple[int, ...] | None = None
    for name, file in archive.files():
        array, placings[name] = prepare(open_picture(file, name, wanted), wanted, name)
        if shape is not None and array.shape != shape:
            raise BadData(
                f"Picture {name!r} comes out as {list(array.shape)}, the first one as {list(shape)}.",
                remedy="Declare `resize: [height, width]`, or a crop, so that all become one size.",
            )
        shape = array.shape
        writer.append(wanted.input, array, count=count)
    for row in _rows(archive.pictures, labels, placings) if labels is not None else ():
        writer.append(LABELS, row, count=count)
    writer.close()
    return placings


def _rows(names: list[str], labels: Labels, placings: dict[str, Placing]) -> NDArray[Any]:
    """Return a label per picture; boxes go where the preprocessing put their picture's points."""
    import numpy as np

    if not labels.boxes:
        return np.array([labels.values[name] for name in names])
    moved = []
    for name in names:
        boxes = np.array(labels.boxes.get(name, []), dtype=np.float64).reshape(-1, 5)
        moved.append(np.concatenate([placings[name].boxes(boxes[:, :4]), boxes[:, 4:]], axis=1))
    return padded_boxes(moved)
