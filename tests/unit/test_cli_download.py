"""`farm download`: whole, resumed, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.cli.main import run
from farm.client import Client
from farm.domain.errors import DigestMismatch, UnsafeModel
from farm.transfer.download import part_path
from tests.farm_double import TOKEN, FarmDouble, farm_double, job_view

FOLDER = "digits/x86-64-v3/onnxruntime/float32"


@pytest.fixture
def double() -> Iterator[FarmDouble]:
    with farm_double() as made:
        made.answers["GET /v1/jobs/j-1"] = (200, job_view(state="succeeded"))
        yield made


def publish(double: FarmDouble, *items: dict[str, object], folder: str = FOLDER) -> None:
    double.answers["GET /v1/jobs/j-1/files"] = (200, [{"folder": folder, "files": list(items)}])


def ways(double: FarmDouble, to: Path) -> list[str]:
    return [file.how for file in Client(double.url, TOKEN).job("j-1").download(to)]


def test_every_file_arrives_in_its_folder(double: FarmDouble, tmp_path: Path) -> None:
    publish(double, double.put(b"model", "digits.onnx"), double.put(b"{}", "manifest.json"))

    assert ways(double, tmp_path) == ["downloaded", "downloaded"]
    assert (tmp_path / FOLDER / "digits.onnx").read_bytes() == b"model"


@pytest.mark.parametrize(("state", "said"), [("running", "Job j-1 still runs (running)"), ("succeeded", "")])
def test_a_job_that_still_runs_is_not_taken_for_whole(
    double: FarmDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    state: str,
    said: str,
) -> None:
    monkeypatch.setenv("FARM_URL", double.url)
    monkeypatch.setenv("FARM_TOKEN", TOKEN)
    double.answers["GET /v1/jobs/j-1"] = (200, job_view(state=state))
    publish(double, double.put(b"model", "digits.onnx"))

    assert run(["download", "j-1", "--to", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "every digest right" in told.out
    assert ("still runs" in told.err) is bool(said)
    assert said in told.err


def test_what_is_there_and_right_is_kept(double: FarmDouble, tmp_path: Path) -> None:
    publish(double, double.put(b"model", "digits.onnx"), double.put(b"{}", "manifest.json"))
    ways(double, tmp_path)
    (tmp_path / FOLDER / "manifest.json").write_bytes(b"[]")

    assert ways(double, tmp_path) == ["kept", "downloaded"]
    assert (tmp_path / FOLDER / "manifest.json").read_bytes() == b"{}"


def test_a_broken_off_file_is_resumed(double: FarmDouble, tmp_path: Path) -> None:
    item = double.put(b"model bytes", "digits.onnx")
    publish(double, item)
    part = part_path(tmp_path / FOLDER / "digits.onnx", str(item["sha256"]))
    part.parent.mkdir(parents=True)
    part.write_bytes(b"model ")

    assert ways(double, tmp_path) == ["resumed"]
    assert double.headers("GET /store/")[-1]["Range"] == "bytes=6-"
    assert (tmp_path / FOLDER / "digits.onnx").read_bytes() == b"model bytes"


def test_other_bytes_are_refused_and_nothing_is_left(double: FarmDouble, tmp_path: Path) -> None:
    item = double.put(b"model", "digits.onnx")
    double.store[str(item["sha256"])] = b"MODEL"
    publish(double, item)

    with pytest.raises(DigestMismatch, match=r"digits\.onnx"):
        ways(double, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("folder", "name"), [("../up", "a"), ("/abs", "a"), (FOLDER, "../a"), (FOLDER, "/etc/a"), (FOLDER, "a\x1b")]
)
def test_names_that_leave_their_folder_are_refused(double: FarmDouble, tmp_path: Path, folder: str, name: str) -> None:
    publish(double, double.put(b"model", name), folder=folder)

    with pytest.raises(UnsafeModel):
        ways(double, tmp_path / "to")
    assert not double.requests("GET /store/")


def test_a_link_on_the_way_is_not_followed(double: FarmDouble, tmp_path: Path) -> None:
    publish(double, double.put(b"model", "digits.onnx"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to/digits").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnsafeModel, match="is a link"):
        ways(double, tmp_path / "to")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_manifest_is_written_where_none_is_published(double: FarmDouble, tmp_path: Path) -> None:
    item = double.put(b"model", "digits.onnx")
    publish(double, item)

    ways(double, tmp_path)

    assert str(item["sha256"]) in (tmp_path / FOLDER / "manifest.json").read_text()
