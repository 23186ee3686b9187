"""How pictures become a model's input: declared by the user, carried out in the sandbox, told in report and manifest.

In this order: colour order, resize, crop, scale, mean and std, layout, dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from farm.domain.codec import decode, encode
from farm.domain.errors import BadRequest

LARGEST = 8192
"""Pixels on one side, of what a model is given."""
EXAMPLE = (
    "input: image\nresize: [256, 256]\ncrop: [224, 224]\nmean: [0.485, 0.456, 0.406]\nstd: [0.229, 0.224, 0.225]\n"
)


class Colours(StrEnum):
    """The order of the channels; grey is one."""

    RGB = "rgb"
    BGR = "bgr"
    GREY = "grey"


class Layout(StrEnum):
    """Whether channels come before or after height and width."""

    NCHW = "nchw"
    NHWC = "nhwc"


class Filter(StrEnum):
    """How a picture is resized."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is done to each picture.

    Attributes:
        input: the model's input that pictures become.
        resize: [height, width] to stretch to, or one size for the shorter side, which keeps the shape.
        crop: [height, width] of the middle, taken after resizing.
        scale: what 8-bit values are multiplied by first; 1/255 makes [0, 1].
        mean, std: per channel, in the declared colour order: (value · scale − mean) / std.
        classes: names of the classes in the order of the model's scores; labels.csv may then hold names.
    """

    input: str
    resize: tuple[int, ...] | None = None
    crop: tuple[int, int] | None = None
    colours: Colours = Colours.RGB
    filter: Filter = Filter.BILINEAR
    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = Layout.NCHW
    dtype: str = "float32"
    classes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return 1 if self.colours is Colours.GREY else 3


@dataclass(slots=True)
class _Reading:
    """Collects every reason against a declaration."""

    told: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)

    def need(self, fits: bool, key: str, wants: str) -> None:
        if not fits:
            self.problems.append(f"{key} = {self.told.get(key)!r} is not {wants}")


def value_ranges(told: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    """Tell between which values the input lies that a declaration leads to; nothing without a declaration.

    Args:
        told: a declaration in full, as `declared` tells it.
    """
    if told is None:
        return {}
    wanted = decode(Preprocessing, dict(told))
    means, stds = wanted.mean or (0.0,) * wanted.channels, wanted.std or (1.0,) * wanted.channels
    ends = [(value * wanted.scale - m) / s for value in (0, 255) for m, s in zip(means, stds, strict=True)]
    return {wanted.input: (min(ends), max(ends))}


DTYPES = ("float32", "float16", "uint8", "int8", "int32")


def read_preprocessing(told: Mapping[str, Any]) -> Preprocessing:
    """Read a declaration.

    Raises:
        BadRequest: a key is unknown or a value does not fit; every reason.
    """
    known = {one.name for one in fields(Preprocessing)}
    reading = _Reading(told, [f"{key} is not known" for key in told if key not in known])
    _check_sizes(reading)
    _check_values(reading)
    if reading.problems:
        raise BadRequest(
            f"The preprocessing does not fit: {'; '.join(reading.problems)}.",
            remedy=f"Known are {', '.join(sorted(known))}; for example:\n{EXAMPLE}",
        )
    return decode(Preprocessing, dict(told))


def declared(preprocessing: Preprocessing) -> dict[str, Any]:
    """Tell a declaration in full, defaults too, as report and manifest show it."""
    told: dict[str, Any] = encode(preprocessing)
    return told


def _check_sizes(reading: _Reading) -> None:
    for key, lengths in (("resize", (1, 2)), ("crop", (2,))):
        value = reading.told.get(key)
        fits = value is None or (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and len(value) in lengths
            and all(isinstance(size, int) and not isinstance(size, bool) and 0 < size <= LARGEST for size in value)
        )
        reading.need(fits, key, f"a list such as {[224] * lengths[-1]}, sizes from 1 to {LARGEST}")


def _check_values(reading: _Reading) -> None:
    told = reading.told
    name = told.get("input")
    reading.need(isinstance(name, str) and bool(name), "input", "the name of a model's input")
    for key, kind in (("colours", Colours), ("layout", Layout), ("filter", Filter)):
        reading.need(told.get(key, next(iter(kind))) in list(kind), key, f"one of {', '.join(kind)}")
    reading.need(told.get("dtype", "float32") in DTYPES, "dtype", f"one of {', '.join(DTYPES)}")
    reading.need(_is_number(told.get("scale", 1.0)), "scale", "a number")
    channels = 1 if told.get("colours") == Colours.GREY else 3
    for key in ("mean", "std"):
        values = told.get(key, ())
        fits = isinstance(values, Sequence) and len(values) in (0, channels) and all(_is_number(v) for v in values)
        reading.need(fits, key, f"a list of {channels} numbers, one for each channel")
        if key == "std" and fits:
            reading.need(all(v > 0 for v in values), key, "above 0")
    classes = told.get("classes", ())
    named = isinstance(classes, Sequence) and not isinstance(classes, str) and all(isinstance(c, str) for c in classes)
    reading.need(named and len(set(classes)) == len(classes), "classes", "a list of different names")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12
