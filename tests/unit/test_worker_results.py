"""What a child left behind: links, pipes, missing files, wrong facts, and logs that are no logs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.domain.codec import encode
from farm.domain.errors import (
    Actor,
    ArtifactBroken,
    ConfigurationError,
    EnvironmentMissing,
    FarmError,
    HostError,
    JobCancelled,
    ToolchainError,
    ToolCrashed,
    ToolOutOfDisk,
    ToolOutOfMemory,
)
from farm.domain.facts import Format
from farm.domain.stage import Kind, StageSpec
from workers.results import LOG_LIMIT_BYTES, Made, check_plain, join_logs, read_result, runs_in
from workers.sandbox import Call, Ending, Level, Limits
from workers.sandbox.values import OUT_OF_MEMORY_EXIT
from workers.stages import load_specs


def test_a_log_that_is_a_link_tells_nothing_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the host's own")
    (tmp_path / "work" / "run-0").mkdir(parents=True)
    (tmp_path / "work" / "run-1").mkdir()
    (tmp_path / "work" / "run-0" / "log.txt").symlink_to(tmp_path / "secret")
    (tmp_path / "work" / "run-1" / "log.txt").write_text("said by run 1")

    join_logs(tmp_path / "work", tmp_path / "whole")

    text = (tmp_path / "whole").read_text()
    assert "the host's own" not in text
    assert "The log of run-0 can't be read" in text
    assert "said by run 1" in text


def test_the_tenth_run_follows_the_ninth(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"run-{number}").mkdir()
        (tmp_path / f"run-{number}" / "log.txt").write_text(f"{number}\n")
    (tmp_path / "run-12").mkdir()

    join_logs(tmp_path, tmp_path / "whole")

    assert (tmp_path / "whole").read_text().split() == [str(number) for number in range(12)]
    assert runs_in(tmp_path)[-1].name == "run-12"


@pytest.mark.timeout(20)
def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run-0").mkdir()
    os.mkfifo(tmp_path / "run-0" / "log.txt")

    join_logs(tmp_path, tmp_path / "whole")

    assert "run-0 can't be read" in (tmp_path / "whole").read_text()


def test_a_log_without_end_is_cut_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "run-0").mkdir()
    with (tmp_path / "run-0" / "log.txt").open("wb") as opened:
        opened.truncate(LOG_LIMIT_BYTES + 1)

    join_logs(tmp_path, tmp_path / "whole")

    assert LOG_LIMIT_BYTES < (tmp_path / "whole").stat().st_size < LOG_LIMIT_BYTES + 200
    assert b"Cut here" in (tmp_path / "whole").read_bytes()[-200:]


def test_an_output_behind_a_link_is_refused_when_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("the host's own")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere" / "secret")

    for path in (tmp_path / "out" / "secret", tmp_path / "model"):
        with pytest.raises(OSError, match=r"link"):
            check_plain(path)


EXITED = Ending("exit", 0, None, 0.1, None, Level.NONE)
COMPARED = {
    "numerics": {"sqnr_db": 41.5, "cosine": None, "max_abs_error": 0},
    "artifact": {"inputs": [], "outputs": [], "contract_changes": []},
}
LAYERS = [
    {
        "tensor": "conv1",
        "operator": "Conv",
        "sqnr_db": 31.5,
        "cosine": 0.999,
        "max_abs_error": 0.1,
        "max_abs_value": 2,
        "clipped_share": 0.0,
    }
]
TRACED = {"layers": LAYERS, "note": None}
UNTRACED = {"layers": None, "note": "none has a counterpart."}
SCORED = {"accuracy": {"metric": "top1", "value": 0.5, "float_value": 1, "samples": 8}}


def read(work: Path, kind: Kind, told: Any) -> Made:
    """Read what a child left that exited with 0 and told `told`, a JSON value or the text itself."""
    (work / "result.json").write_text(told if isinstance(told, str) else json.dumps(told))
    return read_result(work, EXITED, _call(work), _spec(kind))


def test_a_file_and_a_tree_are_described(tmp_path: Path) -> None:
    (tmp_path / "out" / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "tree" / "deep" / "a.bin").write_bytes(b"a")
    (tmp_path / "out" / "model.onnx").write_bytes(b"b")

    made = read(tmp_path, Kind.CONVERT, {"outputs": {"model": "out/model.onnx", "tree": "out/tree"}})

    assert [file.name for file in made.outputs["model"].files] == ["model.onnx"]
    assert [file.name for file in made.outputs["tree"].files] == ["deep/a.bin"]
    assert {path.read_bytes() for path in made.paths.values()} == {b"a", b"b"}


@pytest.mark.parametrize(
    "relative",
    ["out/nope", "../secret", "/etc/hostname", "out/\\udcff", "out/a\nb", "out/a\0b", "out//", "", "x" * 600],
)
def test_an_output_that_is_not_there_or_has_no_proper_name_is_broken(tmp_path: Path, relative: str) -> None:
    (tmp_path / "out").mkdir()

    with pytest.raises(ArtifactBroken):
        read(tmp_path, Kind.CONVERT, {"outputs": {"model": relative}})


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"a\x1b[2J", b"a\\b", b"/".join([b"d" * 200] * 3)])
def test_a_tree_with_improper_names_is_broken(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "out" / os.fsdecode(name)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")

    with pytest.raises(ArtifactBroken):
        read(tmp_path, Kind.CONVERT, {"outputs": {"model": "out"}})


def link_as_output(work: Path) -> None:
    (work / "out").symlink_to(work.parent / "host")


def link_in_tree(work: Path) -> None:
    (work / "out").mkdir()
    (work / "out" / "file").symlink_to(work.parent / "host" / "file")


def linked_folder_in_tree(work: Path) -> None:
    (work / "out").mkdir()
    (work / "out" / "folder").symlink_to(work.parent / "host")


def pipe_in_tree(work: Path) -> None:
    (work / "out").mkdir()
    os.mkfifo(work / "out" / "pipe")


@pytest.mark.parametrize("make", [link_as_output, link_in_tree, linked_folder_in_tree, pipe_in_tree])
@pytest.mark.parametrize("named", ["out", "out/file", "out/folder/file", "out/pipe"])
def test_no_output_is_read_through_a_link_or_pipe(tmp_path: Path, make: Callable[[Path], None], named: str) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "file").write_text("the host's own")
    (tmp_path / "run-0").mkdir()
    make(tmp_path / "run-0")

    with pytest.raises(ArtifactBroken):
        read(tmp_path / "run-0", Kind.CONVERT, {"outputs": {"model": named}})


def test_a_result_behind_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / "run-0").mkdir()
    (tmp_path / "run-0" / "result.json").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ArtifactBroken):
        read_result(tmp_path / "run-0", EXITED, _call(tmp_path), _spec(Kind.INSPECT))


@pytest.mark.parametrize(
    "kind", [Kind.EXPORT, Kind.CONVERT, Kind.OPTIMIZE, Kind.QUANTIZE, Kind.COMPILE, Kind.REFERENCE]
)
def test_a_success_without_what_the_next_step_needs_is_broken(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "other").write_bytes(b"x")

    with pytest.raises(ArtifactBroken, match="without its output"):
        read(tmp_path, kind, {"outputs": {"other": "other"}})


@pytest.mark.parametrize(
    ("kind", "facts"),
    [(Kind.COMPARE, COMPARED), (Kind.EVALUATE, SCORED), (Kind.TRACE, TRACED), (Kind.TRACE, UNTRACED)],
)
def test_facts_of_their_kind_are_taken(tmp_path: Path, kind: Kind, facts: dict[str, Any]) -> None:
    assert read(tmp_path, kind, {"facts": facts}).facts == facts


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (Kind.COMPARE, {}),
        (Kind.COMPARE, []),
        (Kind.COMPARE, COMPARED | {"numerics": {"sqnr_db": "high"}}),
        (Kind.COMPARE, COMPARED | {"numerics": {"cosine": True}}),
        (Kind.COMPARE, COMPARED | {"numerics": {"max_abs_error": 10**400}}),
        (Kind.COMPARE, COMPARED | {"artifact": []}),
        (Kind.COMPARE, COMPARED | {"artifact": {"inputs": [], "outputs": [], "contract_changes": "none"}}),
        (Kind.EVALUATE, {}),
        (Kind.EVALUATE, {"accuracy": SCORED["accuracy"] | {"metric": 1}}),
        (Kind.EVALUATE, {"accuracy": SCORED["accuracy"] | {"value": None}}),
        (Kind.EVALUATE, {"accuracy": SCORED["accuracy"] | {"float_value": "1"}}),
        (Kind.EVALUATE, {"accuracy": SCORED["accuracy"] | {"samples": 1.5}}),
        (Kind.TRACE, {}),
        (Kind.TRACE, UNTRACED | {"note": None}),
        (Kind.TRACE, TRACED | {"note": 7}),
        (Kind.TRACE, TRACED | {"layers": "all"}),
        (Kind.TRACE, TRACED | {"layers": [*LAYERS, {"tensor": "x"}]}),
        (Kind.TRACE, TRACED | {"layers": [LAYERS[0] | {"sqnr_db": "low"}]}),
        (Kind.TRACE, TRACED | {"layers": [LAYERS[0] | {"operator": None}]}),
    ],
)
def test_facts_that_no_verdict_can_rest_on_are_broken(tmp_path: Path, kind: Kind, facts: Any) -> None:
    with pytest.raises(ArtifactBroken, match="no usable"):
        read(tmp_path, kind, {"facts": facts})


@pytest.mark.parametrize(
    "told",
    [
        {"facts": {"name": "a\0"}},
        {"facts": {"deep": [{"key\0": 1}]}},
        {"facts": {"name": "\ud800"}},
        {"reproduce": "tool \0"},
        {"tool_versions": {"tool": "\udcff"}},
        {"contract": {"inputs": [], "outputs": [], "changes": ["\0"]}},
        '{"facts": {"size": 1e999}}',
        '{"facts": {"size": NaN}}',
        '{"facts": ' + "[" * 100 + "]" * 100 + "}",
        '{"contract": {"inputs": 1, "outputs": []}}',
    ],
)
def test_what_the_ledger_can_not_hold_is_broken(tmp_path: Path, told: Any) -> None:
    with pytest.raises(ArtifactBroken):
        read(tmp_path, Kind.INSPECT, told)


def test_a_told_failure_arrives_without_what_the_ledger_can_not_hold(tmp_path: Path) -> None:
    failure = {"code": "tool-crashed", "message": "It died.\0", "who_must_act": "toolchain", "retryable": False}

    with pytest.raises(ToolCrashed) as caught:
        read(tmp_path, Kind.INSPECT, {"failure": failure | {"remedy": None, "evidence": {"at\0": ["\udcff"]}}})

    assert (caught.value.message, caught.value.evidence) == ("It died.", {"at": ["?"]})


LATE = dataclasses.replace(EXITED, end="wall", exit_code=None)
CRASHED = dataclasses.replace(EXITED, end="signal", exit_code=None, signal="SIGSEGV")
LEFT = dataclasses.replace(EXITED, exit_code=3)
FULL_MEMORY = dataclasses.replace(EXITED, end="memory", exit_code=None, detail="oom_kill 1")
NO_MEMORY = dataclasses.replace(EXITED, exit_code=OUT_OF_MEMORY_EXIT)
FULL_DISK = dataclasses.replace(EXITED, end="disk", exit_code=None)
BUILT, FILE = Format.TORCH_STATE_DICT, Format.TFLITE
ENDINGS = {
    "wall": (LATE, r"did not end within 1 s"),
    "signal": (CRASHED, r"crashed with SIGSEGV"),
    "exit": (LEFT, r"ended with exit code 3"),
    "memory": (FULL_MEMORY, r"3\.0 GiB of memory"),
    "MemoryError": (NO_MEMORY, r"3\.0 GiB of memory"),
    "disk": (FULL_DISK, r"2\.0 GiB of disk"),
}


@pytest.mark.parametrize("end", ENDINGS)
@pytest.mark.parametrize("kind", [Kind.INSPECT, Kind.REFERENCE])
@pytest.mark.parametrize("source", [BUILT, FILE])
def test_no_other_route_replaces_an_inspection_or_the_sources_own_run(
    tmp_path: Path, end: str, kind: Kind, source: Format
) -> None:
    """So that the submitter must act, with the limit and a way out, and no route is promised."""
    ending, says = ENDINGS[end]

    with pytest.raises(FarmError, match=says) as caught:
        read_result(tmp_path, ending, _call(tmp_path), _spec(kind, source))

    failure = caught.value.failure
    assert failure.who_must_act is Actor.SUBMITTER
    assert not failure.retryable
    assert failure.remedy
    assert "route" not in failure.message + failure.remedy
    assert (kind is Kind.INSPECT and end == "wall") or ("builder" in failure.message) is (source is BUILT)
    assert ("nothing replaces it" in failure.remedy) is (kind is Kind.REFERENCE)


@pytest.mark.parametrize(
    ("kind", "source", "end", "code"),
    [
        (Kind.INSPECT, FILE, "wall", "bad-request"),
        (Kind.INSPECT, FILE, "signal", "corrupt-model"),
        (Kind.INSPECT, FILE, "memory", "too-large"),
        (Kind.INSPECT, BUILT, "signal", "bad-request"),
        (Kind.REFERENCE, BUILT, "exit", "bad-request"),
        (Kind.REFERENCE, FILE, "signal", "request-error"),
        (Kind.REFERENCE, FILE, "disk", "too-large"),
        (Kind.CONVERT, FILE, "wall", "tool-timed-out"),
        (Kind.CONVERT, BUILT, "signal", "tool-crashed"),
        (Kind.CONVERT, FILE, "exit", "toolchain-error"),
        (Kind.CONVERT, FILE, "memory", "tool-out-of-memory"),
        (Kind.CONVERT, FILE, "MemoryError", "tool-out-of-memory"),
        (Kind.CONVERT, FILE, "disk", "tool-out-of-disk"),
    ],
)
def test_how_a_process_ended_names_the_failure(tmp_path: Path, kind: Kind, source: Format, end: str, code: str) -> None:
    ending, says = ENDINGS[end]

    with pytest.raises(FarmError, match=says) as caught:
        read_result(tmp_path, ending, _call(tmp_path), _spec(kind, source))

    failure = caught.value.failure
    assert failure.code == code
    assert (failure.who_must_act is Actor.TOOLCHAIN) is (kind is Kind.CONVERT)


@pytest.mark.parametrize("kind", [Kind.INSPECT, Kind.REFERENCE, Kind.CONVERT])
@pytest.mark.parametrize("error", [ToolOutOfMemory, ToolOutOfDisk])
def test_a_limit_that_a_child_tells_of_is_the_models_where_no_route_is(
    tmp_path: Path, kind: Kind, error: type[ToolchainError]
) -> None:
    """Given a reader that met the limit as an exception, such as `std::bad_alloc` or `File too large`."""
    with pytest.raises(FarmError, match=r"std::bad_alloc") as caught:
        read(tmp_path, kind, {"failure": encode(error("std::bad_alloc").failure)})

    expected = error.code if kind is Kind.CONVERT else "too-large"
    assert caught.value.failure.code == expected


USB_FAULT = "F driver/usb/usb_driver.cc:857 transfer on tag 1 failed. Abort. Deadline exceeded: USB transfer error 2\n"
ABORTED = dataclasses.replace(CRASHED, signal="SIGABRT")


@pytest.mark.parametrize(
    ("log", "device", "kind", "ending", "code"),
    [
        (USB_FAULT, "/dev/null", Kind.MEASURE, ABORTED, "host-error"),
        ("", "/dev/gone", Kind.COMPARE, CRASHED, "host-error"),
        ("an assertion of ours", "/dev/null", Kind.MEASURE, ABORTED, "tool-crashed"),
        (USB_FAULT, None, Kind.MEASURE, ABORTED, "tool-crashed"),
        (USB_FAULT, "/dev/null", Kind.COMPILE, ABORTED, "tool-crashed"),
        (USB_FAULT, "/dev/null", Kind.MEASURE, LEFT, "toolchain-error"),
    ],
    ids=["USB fault", "unplugged", "own crash", "no device", "no target", "an exit"],
)
def test_a_device_that_takes_its_process_along_is_the_hosts_fault(
    tmp_path: Path, log: str, device: str | None, kind: Kind, ending: Ending, code: str
) -> None:
    """Given libedgetpu, which aborts the process on a fault of USB; then the step is tried again, elsewhere if it
    may be, and no other route is."""
    (tmp_path / "log.txt").write_text(log)
    call = dataclasses.replace(_call(tmp_path), devices=(Path(device),) if device else ())
    with pytest.raises(FarmError) as caught:
        read_result(tmp_path, ending, call, _spec(kind))

    assert caught.value.failure.code == code
    assert not log or code != "host-error" or "USB transfer error 2" in caught.value.message


FOREIGN = [kind for kind in FarmError.by_code.values() if issubclass(kind, (HostError, ConfigurationError))]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("error", [*FOREIGN, JobCancelled], ids=lambda error: error.code)
def test_a_child_is_no_witness_of_its_host(tmp_path: Path, kind: Kind, error: type[FarmError]) -> None:
    """Given a child that blames its host, its operator or a cancellation; then it is neither retried nor counted."""
    with pytest.raises(FarmError, match=r"The host is to blame\.") as caught:
        read(tmp_path, kind, {"failure": encode(error("The host is to blame.", at="here").failure)})

    failure = caught.value.failure
    if error is EnvironmentMissing:
        assert failure.code == error.code
        return
    on_no_route = kind in (Kind.INSPECT, Kind.REFERENCE)
    assert failure.who_must_act is (Actor.SUBMITTER if on_no_route else Actor.TOOLCHAIN)
    assert not failure.retryable
    assert failure.evidence == {"at": "here", "told": error.code}


@pytest.mark.parametrize(("kind", "believed"), [(Kind.MEASURE, True), (Kind.COMPARE, True), (Kind.COMPILE, False)])
def test_a_child_with_a_device_may_say_that_it_is_gone(tmp_path: Path, kind: Kind, believed: bool) -> None:
    told = {"failure": encode(HostError("The Edge TPU was unplugged.").failure)}
    (tmp_path / "result.json").write_text(json.dumps(told))
    call = dataclasses.replace(_call(tmp_path), devices=(Path("/dev/apex_0"),))

    with pytest.raises(FarmError) as caught:
        read_result(tmp_path, EXITED, call, _spec(kind))

    assert isinstance(caught.value, HostError) is believed


def _call(work: Path) -> Call:
    limits = Limits(wall_s=1.0, memory_bytes=3 << 30, disk_bytes=2 << 30, file_bytes=1)
    return Call(environment=work, entry="a:b", work=work, readable=(), limits=limits)


def _spec(kind: Kind, source: Format = Format.TFLITE) -> StageSpec:
    return dataclasses.replace(load_specs()["inspect-tflite"], name="toy", kind=kind, source=source)
