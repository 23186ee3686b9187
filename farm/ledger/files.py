"""Blobs and uploads: which bytes a project has, and which are on their way."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from farm.domain.artifact import FileRef
from farm.domain.errors import MissingFile, NotFound
from farm.ledger.session import take_alone
from farm.ledger.tables import Blob, Upload, new_id


def has_blob(session: Session, project: str, sha256: str) -> bool:
    blob = session.get(Blob, (project, sha256))
    return blob is not None and blob.verified is not None


def record_blob(session: Session, project: str, file: FileRef) -> None:
    """Note that the store holds these bytes, proven by digest, for this project."""
    row = insert(Blob).values(project_id=project, sha256=file.sha256, size_bytes=file.size_bytes, verified=func.now())
    session.execute(
        row.on_conflict_do_update(index_elements=[Blob.project_id, Blob.sha256], set_={"verified": func.now()})
    )


def missing_blobs(session: Session, project: str, files: Iterable[FileRef]) -> list[FileRef]:
    """List the files that this project has not proven to hold."""
    wanted = list(files)
    found = select(Blob.sha256).where(
        Blob.project_id == project, Blob.sha256.in_([f.sha256 for f in wanted]), Blob.verified.is_not(None)
    )
    have = set(session.scalars(found))
    return [f for f in wanted if f.sha256 not in have]


def upload_of(session: Session, project: str, sha256: str, *, alone: bool = False) -> Upload | None:
    """Find the upload of a file; `alone` has those who would open the same one wait for one another."""
    if alone:
        take_alone(session, f"upload:{project}:{sha256}")
    return session.scalar(select(Upload).where(Upload.project_id == project, Upload.sha256 == sha256))


def add_upload(session: Session, project: str, *, upload_id: str, file: FileRef, multipart_id: str) -> Upload:
    row = Upload(
        id=upload_id,
        project_id=project,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        multipart_id=multipart_id,
        parts={},
    )
    session.add(row)
    session.flush()
    return row


def get_upload(session: Session, project: str, upload_id: str, *, lock: bool = False) -> Upload:
    """Find an upload of this project.

    Raises:
        NotFound: no such upload.
    """
    upload = session.get(Upload, upload_id, with_for_update=lock or None)
    if upload is None or upload.project_id != project:
        raise NotFound(
            f"There is no upload {upload_id}; it may have ended or expired.", remedy="Declare the file again."
        )
    return upload


def forget_upload(session: Session, upload_id: str) -> None:
    """Forget an upload that can't be completed any more, so that its file may be declared anew."""
    session.execute(delete(Upload).where(Upload.id == upload_id))


def take_expired_uploads(session: Session, *, older_than_s: float) -> list[tuple[str, str]]:
    """Forget uploads that nobody finished; return their ids and multipart ids."""
    gone = delete(Upload).where(Upload.created < func.now() - timedelta(seconds=older_than_s))
    return [(u.id, u.multipart_id) for u in session.scalars(gone.returning(Upload))]


def require_blobs(session: Session, project: str, files: Iterable[FileRef]) -> None:
    """Refuse files that were declared but never uploaded.

    Raises:
        MissingFile: naming each of them.
    """
    if missing := missing_blobs(session, project, files):
        names = ", ".join(f"{f.name} (sha256 {f.sha256[:12]}…)" for f in missing)
        raise MissingFile(f"Not uploaded yet: {names}.", remedy="Upload them first; `farm submit` does it by itself.")


def new_upload_id() -> str:
    return new_id("upload")
