"""What is published of a result, and under which names. No model bytes are read."""

from __future__ import annotations

import hashlib
from typing import Any

from farm.domain.artifact import FileRef
from farm.domain.codec import canonical
from farm.store.names import safe_name

MANIFEST = "manifest.json"


def folder_of(body: dict[str, Any]) -> str:
    """Name a result's folder: model/target/runtime/recipe, each made safe for a path."""
    return "/".join(safe_name(body[part]) for part in ("model", "target", "target_runtime", "recipe"))


def published_prefix(job_id: str, body: dict[str, Any]) -> str:
    return f"jobs/{job_id}/{folder_of(body)}"


def published_files(body: dict[str, Any]) -> list[FileRef]:
    """List the model files of a result by the names they are published under."""
    artifact = body.get("artifact") or {}
    return [FileRef(f["name"], f["sha256"], f["size_bytes"]) for f in artifact.get("files", [])]


def published_documents(job_id: str, body: dict[str, Any]) -> list[FileRef]:
    """List the documents that stand beside the model files."""
    return [
        FileRef(name, hashlib.sha256(text).hexdigest(), len(text)) for name, text in documents(job_id, body).items()
    ]


def documents(job_id: str, body: dict[str, Any]) -> dict[str, bytes]:
    return {MANIFEST: manifest(job_id, body), "report.json": canonical(body)}


def manifest(job_id: str, body: dict[str, Any]) -> bytes:
    """Say what lies in a result's folder and what it is: digests, I/O contract, verdict."""
    artifact = body.get("artifact") or {}
    names = ("model", "target", "target_runtime", "recipe", "verdict", "failure_type", "message", "tool_versions")
    told = {"job": job_id, **{name: body.get(name) for name in names}}
    return canonical(told | {name: artifact.get(name) for name in ("files", "inputs", "outputs", "contract_changes")})
