"""Uploads: declared here, sent straight to the store."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from farm.api.context import Anyone, Context, Parts
from farm.domain.artifact import FileRef
from farm.domain.errors import BadRequest, DigestMismatch, NotFound, TooLarge
from farm.ledger import files
from farm.ledger.tables import Upload
from farm.wire.transfers import Part, PartRequest, PartTicket, UploadRequest, UploadTicket

router = APIRouter(tags=["uploads"])


@router.post("/uploads")
def declare(asked: UploadRequest, parts: Parts, caller: Anyone) -> UploadTicket:
    """Declare a file by digest; bytes this project has are not sent again."""
    return ticket(
        parts, caller.project, FileRef(asked.sha256, asked.sha256, asked.size_bytes), broken_put=asked.broken_put
    )


@router.post("/uploads/{upload}/parts")
def part_urls(upload: str, asked: list[PartRequest], parts: Parts, caller: Anyone) -> list[PartTicket]:
    """Sign a URL for each part."""
    row = parts.ledger.run(lambda session: files.get_upload(session, caller.project, upload))
    for part in asked:
        _fits(part, row.size_bytes, part_size_bytes=parts.config.part_size_bytes)
    signed = [
        parts.store.presign_part(row.id, row.multipart_id, part.number, part.sha256_base64, part.size_bytes)
        for part in asked
    ]
    return [PartTicket(url=url, headers=headers) for url, headers in signed]


@router.post("/uploads/{upload}/recorded", status_code=204)
def record(upload: str, part: Part, parts: Parts, caller: Anyone) -> Response:
    """Note that the store acknowledged a part, so that nobody sends it again."""

    def note(session: Session) -> None:
        row = files.get_upload(session, caller.project, upload, lock=True)
        row.parts = row.parts | {str(part.number): part.etag}

    parts.ledger.run(note)
    return Response(status_code=204)


@router.post("/uploads/{upload}/complete", status_code=204)
def complete(upload: str, parts: Parts, caller: Anyone) -> Response:
    """Join the parts, read the whole once against its digest, and count it. A second call changes nothing."""
    row = parts.ledger.run(lambda session: files.get_upload(session, caller.project, upload))
    try:
        _promote(parts, row)
    except (DigestMismatch, NotFound):
        parts.ledger.run(lambda session: files.forget_upload(session, row.id))
        raise

    def note(session: Session) -> None:
        files.record_blob(session, caller.project, FileRef(row.sha256, row.sha256, row.size_bytes))

    parts.ledger.run(note)
    return Response(status_code=204)


def ticket(parts: Context, project: str, file: FileRef, *, broken_put: bool = False) -> UploadTicket:
    """Say how to send a file.

    Raises:
        TooLarge: over max_file_bytes.
    """
    limit = parts.config.max_file_bytes
    if file.size_bytes > limit:
        raise TooLarge(
            f"File {file.name} has {file.size_bytes} bytes; this farm takes {limit} at most.",
            remedy="Split or shrink the file, or have the operator raise FARM_MAX_FILE_BYTES.",
        )
    if parts.ledger.run(lambda session: files.has_blob(session, project, file.sha256)):
        return UploadTicket(method="present")
    if file.size_bytes <= parts.config.single_put_limit_bytes and not broken_put:
        url, headers = parts.store.of(project).presign_blob_put(file)
        return UploadTicket(method="put", url=url, headers=headers)
    row = parts.ledger.run(lambda session: _open_upload(session, parts, project, file))
    return UploadTicket(
        method="multipart",
        upload=row.id,
        part_size_bytes=parts.config.part_size_bytes,
        done_parts=[Part(number=int(number), etag=etag) for number, etag in sorted(row.parts.items())],
    )


def proven(parts: Context, project: str, refs: list[FileRef]) -> None:
    """Count blobs that came by a PUT bound to their digest: the store itself checked them."""
    if not refs:
        return
    missing = parts.ledger.run(lambda session: files.missing_blobs(session, project, refs))
    store = parts.store.of(project)
    arrived = [file for file in missing if store.has_blob(file.sha256, file.size_bytes)]

    def note(session: Session) -> None:
        for file in arrived:
            files.record_blob(session, project, file)
        files.require_blobs(session, project, refs)

    parts.ledger.run(note)


def _open_upload(session: Session, parts: Context, project: str, file: FileRef) -> Upload:
    row = files.upload_of(session, project, file.sha256, alone=True)
    if row is not None:
        return row
    upload_id = files.new_upload_id()
    multipart_id = parts.store.begin_multipart(upload_id)
    return files.add_upload(session, project, upload_id=upload_id, file=file, multipart_id=multipart_id)


def _fits(part: PartRequest, size_bytes: int, *, part_size_bytes: int) -> None:
    """Hold a part to the size that its file was declared with.

    Raises:
        BadRequest: the file has no such part, or it has another size.
    """
    expected = min(part_size_bytes, size_bytes - (part.number - 1) * part_size_bytes)
    if expected <= 0:
        raise BadRequest(f"A file of {size_bytes} bytes has no part {part.number} of {part_size_bytes} bytes.")
    if part.size_bytes != expected:
        raise BadRequest(f"Part {part.number} has {expected} bytes, not {part.size_bytes}.")


def _promote(parts: Context, row: Upload) -> None:
    joined = [(int(number), etag) for number, etag in sorted(row.parts.items(), key=lambda item: int(item[0]))]
    parts.store.complete_multipart(row.id, row.multipart_id, joined)
    parts.store.of(row.project_id).promote(row.id, FileRef(row.sha256, row.sha256, row.size_bytes))
