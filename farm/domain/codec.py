"""Dataclasses to JSON and back, by their type hints. Standard library only: stage environments have no pydantic."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping
from enum import Enum
from functools import cache, partial
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
        return typing.cast(T, _reader(typing.cast(Hashable, kind))(data))
    except (TypeError, KeyError) as exc:
        raise ValueError(f"cannot read {getattr(kind, '__name__', kind)}: {exc}") from exc


def canonical(value: Any) -> bytes:
    """Serialize to the one JSON text that digests are taken of: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


Reader = Callable[[Any], Any]
"""Builds a value of one type from JSON values."""


@cache
def _reader(kind: Any) -> Reader:
    """Find out once how a type is read: a plan is decoded at every step that ends."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _as_it_is
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is typing.Literal:
        return partial(_one_of, arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is list:
        return _each(list, _reader(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(*map(_reader, arguments))
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if issubclass(kind, Enum):
        return typing.cast(Reader, kind)
    return partial(_plain, kind)


def _as_it_is(data: Any) -> Any:
    return data


def _plain(kind: type[Any], data: Any) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise TypeError(f"{data!r} is not {kind.__name__}")
    return data


def _one_of(choices: tuple[Any, ...], data: Any) -> Any:
    if data not in choices:
        raise TypeError(f"{data!r} is not one of {', '.join(map(str, choices))}")
    return data


def _union(choices: tuple[Any, ...]) -> Reader:
    readers = [_reader(choice) for choice in choices if choice is not type(None)]
    has_none = type(None) in choices

    def read(data: Any) -> Any:
        if data is None and has_none:
            return None
        for reader in readers:
            try:
                return reader(data)
            except (TypeError, ValueError, KeyError, AttributeError):
                continue
        raise TypeError(f"{data!r} fits none of {choices}")

    return read


def _each(kind: Callable[[Iterable[Any]], Any], reader: Reader) -> Reader:
    def read(data: Any) -> Any:
        if not isinstance(data, (list, tuple)):
            raise TypeError(f"{data!r} is not a list")
        return kind(map(reader, data))

    return read


def _tuple(arguments: tuple[Any, ...]) -> Reader:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return _each(tuple, _reader(arguments[0]))
    readers = [_reader(argument) for argument in arguments]

    def read(data: Any) -> Any:
        if not isinstance(data, (list, tuple)):
            raise TypeError(f"{data!r} is not a list")
        return tuple(reader(item) for reader, item in zip(readers, data, strict=True))

    return read


def _mapping(key: Reader, item: Reader) -> Reader:
    return lambda data: {key(name): item(value) for name, value in _pairs(data).items()}


def _pairs(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise TypeError(f"{data!r} is not an object")
    return data


def _dataclass(kind: Any) -> Reader:
    """Look the fields up at the first value, since a dataclass may hold others of its own kind."""
    readers: dict[str, Reader] = {}

    def read(data: Any) -> Any:
        if not readers:
            readers.update({name: _reader(hint) for name, hint in typing.get_type_hints(kind).items()})
        if unknown := _pairs(data).keys() - readers.keys():
            raise TypeError(f"unknown field {', '.join(sorted(unknown))}")
        return kind(**{name: readers[name](item) for name, item in data.items()})

    return read
