"""What libedgetpu is asked before a delegate is loaded."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from farm.domain.errors import EnvironmentMissing, HostError
from workers.edgetpu.library import Bus, Device, Library, _Entry, open_library


class Function:
    """A stand-in for a C function: callable, with attributes that ctypes would read."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __call__(self, *arguments: object) -> object:
        return self.answer(*arguments) if callable(self.answer) else self.answer


def library(*paths: bytes, version: bytes = b"BuildLabel(TAG=x), RuntimeVersion(14)") -> Library:
    entries = (_Entry * len(paths))(*((1, path) for path in paths))

    def devices(count: object) -> object:
        ctypes.cast(count, ctypes.POINTER(ctypes.c_size_t))[0] = len(paths)
        return ctypes.cast(entries, ctypes.POINTER(_Entry)) if paths else None

    handle = SimpleNamespace(
        edgetpu_list_devices=Function(devices),
        edgetpu_free_devices=Function(None),
        edgetpu_version=Function(version),
    )
    return Library(handle, "libedgetpu.so.1")  # type: ignore[arg-type]


def test_devices_are_listed() -> None:
    assert library(b"/sys/bus/usb/devices/4-1").devices() == (Device(Bus.USB, "/sys/bus/usb/devices/4-1"),)


def test_no_device_is_the_hosts_to_mend() -> None:
    with pytest.raises(HostError, match="sees no Edge TPU"):
        library().need_device()


def test_an_older_runtime_is_said_before_the_model_is_loaded() -> None:
    library().need_runtime(14)
    with pytest.raises(EnvironmentMissing, match=r"compiled for Edge TPU runtime 14; .* is runtime 13"):
        library(version=b"RuntimeVersion(13)").need_runtime(14)


def test_a_missing_library_is_the_operators_to_install() -> None:
    with pytest.raises(EnvironmentMissing, match="can't load libedgetpu-absent"):
        open_library("libedgetpu-absent.so.1")
