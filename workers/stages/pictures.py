"""From a picture's bytes to a model's input, as the user declared it. Needs Pillow; runs only in the sandbox.

Source: Pillow 13, Image.open (formats), Image.resize, ImageOps.exif_transpose. One size for `resize` and the crop of
the middle are rounded as torchvision's Resize and CenterCrop do it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from farm.domain.errors import BadData, TooLarge
from farm.domain.preprocessing import Colours, Layout, Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
MOST_PIXELS = 50_000_000
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error, zlib.error)
"""What Pillow raises on pictures that are damaged or made up; UnidentifiedImageError is an OSError."""


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a picture's points went: multiplied by `scale`, then moved by minus `offset`, both (x, y)."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def boxes(self, boxes: NDArray[Any]) -> NDArray[Any]:
        """Move boxes (…, 4), x1 y1 x2 y2 in pixels of the file, to where they are in the model's input."""
        import numpy as np

        return np.asarray(boxes * np.array([*self.scale, *self.scale]) - np.array([*self.offset, *self.offset]))


def open_picture(file: IO[bytes], name: str, wanted: Preprocessing) -> Image.Image:
    """Decode one picture, upright, in the declared number of channels.

    Raises:
        BadData: it is no picture of a known format, or damaged.
        TooLarge: it has more than 50 million pixels.
    """
    from PIL import Image, ImageOps

    try:
        picture: Image.Image = Image.open(file, formats=FORMATS)
        _limited((picture.height, picture.width), name)
        upright = ImageOps.exif_transpose(picture)
        return upright.convert("L" if wanted.colours is Colours.GREY else "RGB")
    except (*_UNREADABLE, Image.DecompressionBombError) as exc:
        raise BadData(
            f"Picture {name!r} can't be read: {exc}.",
            remedy=f"Formats are {', '.join(FORMATS)}; take damaged files out.",
        ) from exc


def prepare(picture: Image.Image, wanted: Preprocessing, name: str) -> tuple[NDArray[Any], Placing]:
    """Resize, crop and normalize a decoded picture.

    Returns: (channels, height, width) or (height, width, channels), and where its points went.

    Raises:
        BadData: it is smaller than what is cropped.
        TooLarge: it would be resized to more than 50 million pixels.
    """
    from PIL.Image import Resampling

    width, height = picture.size
    if wanted.resize is not None:
        size = _resized(wanted.resize, height, width)
        _limited(size, name)
        picture = picture.resize((size[1], size[0]), Resampling[wanted.filter.upper()])
    scale = (picture.width / width, picture.height / height)
    offset = (0, 0)
    if wanted.crop is not None:
        picture, offset = _cropped(picture, wanted.crop, name)
    return normalized(picture, wanted), Placing(scale, offset)


def normalized(picture: Image.Image, wanted: Preprocessing) -> NDArray[Any]:
    """Make numbers of a picture of the final size: colour order, scale, mean and std, layout, dtype."""
    import numpy as np

    pixels = np.asarray(picture).reshape(picture.height, picture.width, wanted.channels)
    if wanted.colours is Colours.BGR:
        pixels = pixels[:, :, ::-1]
    values: NDArray[Any] = pixels.astype(np.float32) * np.float32(wanted.scale)
    if wanted.mean:
        values = values - np.array(wanted.mean, dtype=np.float32)
    if wanted.std:
        values = values / np.array(wanted.std, dtype=np.float32)
    if wanted.layout is Layout.NCHW:
        values = values.transpose(2, 0, 1)
    dtype = np.dtype(wanted.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.ascontiguousarray(values.astype(dtype))


def _limited(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise TooLarge(
            f"Picture {name!r} has {size[0]} x {size[1]} pixels (height x width); the limit is {MOST_PIXELS:,}.",
            remedy="Shrink it: the model sees far fewer.",
        )


def _resized(resize: tuple[int, ...], height: int, width: int) -> tuple[int, int]:
    """Return the new height and width."""
    if len(resize) == 2:
        return resize[0], resize[1]
    (short,) = resize
    return (short, int(short * width / height)) if height <= width else (int(short * height / width), short)


def _cropped(picture: Image.Image, crop: tuple[int, int], name: str) -> tuple[Image.Image, tuple[int, int]]:
    height, width = crop
    if picture.height < height or picture.width < width:
        raise BadData(
            f"Picture {name!r} is {picture.height} x {picture.width} (height x width) where {height} x {width} is "
            "cropped.",
            remedy="Declare a resize that makes every picture large enough.",
        )
    top, left = round((picture.height - height) / 2.0), round((picture.width - width) / 2.0)
    return picture.crop((left, top, left + width, top + height)), (left, top)
