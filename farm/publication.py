"""What is published of a result, and under which names. No model bytes are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from farm.domain.artifact import FileRef
from farm.domain.codec import canonical
from farm.store.names import safe_name

MANIFEST = "manifest.json"


def folder_of(body: Mapping[str, Any]) -> str:
    """Name a result's folder: model/target/runtime/recipe, each made safe for a path."""
    return "/".join(safe_name(body[part]) for part in ("model", "target", "target_runtime", "recipe"))


def published_prefix(job_id: str, body: Mapping[str, Any]) -> str:
    return f"jobs/{job_id}/{folder_of(body)}"


def published_files(body: Mapping[str, Any]) -> list[FileRef]:
    """List the files of a result by the names they are published under: the model's, and a failure's reproduction."""
    artifact, reproduction = body.get("artifact") or {}, body.get("reproduction") or {}
    files = [FileRef(f["name"], f["sha256"], f["size_bytes"]) for f in artifact.get("files", [])]
    if reproduction.get("file"):
        files.append(FileRef(reproduction["file"], reproduction["sha256"], reproduction["size_bytes"]))
    return files


def documents(told: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, bytes]:
    """Write the documents that stand beside a result's model files; the same for the same arguments.

    Args:
        told: the head of the job's report, what never changes of it.
        body: the result.
    """
    from farm.report.page import render_html

    page = render_html({**told, "state": body["state"], "results": [body]})
    return {
        MANIFEST: manifest(told["job"], body),
        "report.json": canonical(body),
        "report.html": page.encode(),
    }


def document_refs(written: Mapping[str, bytes]) -> list[FileRef]:
    return [FileRef(name, hashlib.sha256(text).hexdigest(), len(text)) for name, text in written.items()]


def manifest(job_id: str, body: Mapping[str, Any]) -> bytes:
    """Say what lies in a result's folder and what it is: digests, I/O contract, what was declared, verdict."""
    artifact = body.get("artifact") or {}
    names = ("model", "target", "target_runtime", "recipe", "verdict", "failure_type", "message", "tool_versions")
    called = ("files", "format", "inputs", "outputs", "contract_changes")
    told = {"job": job_id, **{name: body.get(name) for name in (*names, "preprocessing", "labels")}}
    told["numerics"] = {"sqnr_db": (body.get("numerics") or {}).get("sqnr_db")}
    return canonical(told | {name: artifact.get(name) for name in called})
