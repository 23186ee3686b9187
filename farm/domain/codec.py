"""Dataclasses to JSON and back, by their type hints. Standard library only: stage environments have no pydantic."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turn dataclasses, enums, tuples and mappings into JSON values."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], data: Any) -> T:
    """Build `kind` from JSON values.

    Raises:
        ValueError: an unknown field, a missing field, or a value of the wrong shape.
    """
    try:
        return typing.cast(T, _decode(kind, data))
    except (TypeError, KeyError) as exc:
        raise ValueError(f"cannot read {getattr(kind, '__name__', kind)}: {exc}") from exc


def canonical(value: Any) -> bytes:
    """Serialize to the one JSON text that digests are taken of: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _decode(kind: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, data)
    if origin is typing.Literal:
        if data not in arguments:
            raise TypeError(f"{data!r} is not one of {', '.join(map(str, arguments))}")
        return data
    if origin is tuple:
        return _decode_tuple(arguments, data)
    if origin is list:
        return [_decode(arguments[0], item) for item in data]
    if origin is not None and issubclass(origin, Mapping):
        return {_decode(arguments[0], key): _decode(arguments[1], item) for key, item in data.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data)
    if issubclass(kind, Enum):
        return kind(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise TypeError(f"{data!r} is not {kind.__name__}")
    return data


def _decode_union(choices: tuple[Any, ...], data: Any) -> Any:
    if data is None and type(None) in choices:
        return None
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return _decode(choice, data)
        except (TypeError, ValueError, KeyError, AttributeError):
            continue
    raise TypeError(f"{data!r} fits none of {choices}")


def _decode_tuple(arguments: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise TypeError(f"{data!r} is not a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decode(arguments[0], item) for item in data)
    return tuple(_decode(argument, item) for argument, item in zip(arguments, data, strict=True))


def _decode_dataclass(kind: Any, data: Any) -> Any:
    hints = _hints(kind)
    if unknown := set(data) - set(hints):
        raise TypeError(f"unknown field {', '.join(sorted(unknown))}")
    return kind(**{name: _decode(hints[name], item) for name, item in data.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
