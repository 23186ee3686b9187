"""What libedgetpu is asked before a delegate is loaded."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from farm.domain.errors import EnvironmentMissing, HostError
from farm.domain.facts import TensorSpec
from workers.edgetpu.library import Bus, Device, Library, _Entry, open_library
from workers.runtimes import Profiling, edgetpu
from workers.runtimes.edgetpu import EdgeTpuSession

PAIRS = Path(__file__).parents[1] / "edgetpu_pairs"


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
    assert library().need_runtime(14) is None
    with pytest.raises(EnvironmentMissing, match=r"compiled for Edge TPU runtime 14; .* is runtime 13"):
        library(version=b"RuntimeVersion(13)").need_runtime(14)


def test_a_library_that_does_not_tell_its_runtime_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(edgetpu, "open_library", lambda: library(b"usb", version=b"BuildLabel(TAG=x)"))
    monkeypatch.setattr(edgetpu, "LiteRtSession", lambda *_, **__: SimpleNamespace(operators=tuple))
    found = edgetpu.profile(PAIRS / "bright_16x16_edgetpu.tflite", Profiling({}, tmp_path, 1, 1))

    assert found.note is not None
    assert found.note.startswith(edgetpu.NO_TIMES)
    assert found.note.endswith("does not tell its runtime version; the model asks for 14 or newer, unchecked.")


def test_a_missing_library_is_the_operators_to_install() -> None:
    with pytest.raises(EnvironmentMissing, match="can't load libedgetpu-absent"):
        open_library("libedgetpu-absent.so.1")


class Part:
    """A stand-in for LiteRT with the delegate: one tensor in, one out, until its device is gone."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.inputs = (TensorSpec(name, "int8", (1,)),)
        self.outputs = (TensorSpec(f"{name}'", "int8", (1,)),)
        self.fails = fails

    def run(self, feeds: dict[str, object]) -> dict[str, object]:
        if self.fails:
            raise RuntimeError("Deadline exceeded: USB transfer error 2 [LibUsbDataOutCallback]")
        return {self.outputs[0].name: feeds[self.inputs[0].name]}


def session(found: Library, *parts: Part) -> EdgeTpuSession:
    made = object.__new__(EdgeTpuSession)
    made._library, made._parts = found, list(parts)  # type: ignore[assignment]
    return made


def test_a_segment_gets_what_the_one_before_it_gave() -> None:
    assert session(library(b"usb"), Part("a"), Part("a'")).run({"a": 7}) == {"a''": 7}


def test_a_device_that_is_unplugged_in_mid_run_is_the_hosts() -> None:
    with pytest.raises(HostError, match="unplugged, or reset, while it ran: Deadline exceeded") as told:
        session(library(), Part("a", fails=True)).run({"a": 7})
    assert told.value.who_must_act == "host"


def test_what_fails_beside_a_device_that_is_there_is_not_the_hosts() -> None:
    with pytest.raises(RuntimeError, match="USB transfer error"):
        session(library(b"usb"), Part("a", fails=True)).run({"a": 7})


def test_a_library_of_another_architecture_is_the_operators_to_replace(tmp_path: Path) -> None:
    """Given a file that is an ELF of AArch64 by its header; then the loader's reason and the way out are told."""
    foreign = tmp_path / "libedgetpu.so.1"
    foreign.write_bytes(
        b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + (183).to_bytes(2, "little") + bytes(44)
    )
    with pytest.raises(EnvironmentMissing, match=r"can't load .*libedgetpu"):
        open_library(str(foreign))


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (ValueError("Failed to load delegate from libedgetpu.so.1\n"), HostError, "can't be used: Failed to load"),
        (RuntimeError("Unsupported data type in custom op handler: 0"), EnvironmentMissing, "another|differs"),
        (ValueError("Could not open 'model.tflite'."), ValueError, "Could not open"),
    ],
)
def test_a_delegate_that_fails_says_whose_it_is_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception], words: str
) -> None:
    """Given what LiteRT raises when libedgetpu gives no reason, or is of another version; ours pass as they are."""

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(edgetpu, "open_library", lambda: library(b"usb"))
    monkeypatch.setattr(edgetpu, "LiteRtSession", fail)
    with pytest.raises(expected, match=words):
        EdgeTpuSession(PAIRS / "bright_16x16_edgetpu.tflite")
