"""Downloads the files of a job; a file gets its final name only if it is complete and its SHA-256 is correct."""

import hashlib
import re
from http import HTTPStatus
from pathlib import Path
from typing import Final
from zipfile import BadZipFile, ZipFile

from shared.client.connection import Connection
from shared.client.errors import NO_RESPONSE, ClientError
from shared.client.responses import Artifact

# The service chooses the names of the files, and no name may lead out of the folder.
_PATHLIKE: Final = re.compile(r"[/\\\x00-\x1f\x7f]")


def download(connection: Connection, job_id: str, artifact: Artifact, folder: Path) -> Path:
    """Download a file; an earlier download that was interrupted is continued.

    Returns
    -------
    The path of the file: the folder and the name that the service proposes, which may have the prompt in it.

    Raises
    ------
    ClientError
        The file does not exist, its digest is wrong, or its name is a path.
    FileExistsError
        The folder already contains a file with this name and other content.
    """
    filename = artifact.download_name
    if _PATHLIKE.search(filename) or filename in {"", ".", ".."}:
        raise _refuse_file(f"The name {filename!r} of the file is a path. Nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / filename
    if target.exists():
        if _hash(target) == artifact.sha256:
            return target
        raise FileExistsError(f"{target} already exists with other content; move it, or choose another folder")
    part = folder / f".{artifact.sha256}.part"
    connection.retry(lambda: _append(connection, job_id, artifact, part))
    if _hash(part) != artifact.sha256:
        part.unlink()
        raise _refuse_file(f"{artifact.name} does not match its SHA-256 and was deleted. Download it again.")
    return part.rename(target)


def download_archive(connection: Connection, job_id: str, target: Path) -> Path:
    """Download all files of a job in one zip archive.

    Raises
    ------
    ClientError
        The job has no files, or the archive is damaged.
    FileExistsError
        There is already a file at this path.
    """
    if target.exists():
        raise FileExistsError(f"{target} already exists; move it, or choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{job_id}.zip.part")
    try:
        connection.retry(lambda: _fetch_archive(connection, job_id, part))
        return part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _fetch_archive(connection: Connection, job_id: str, part: Path) -> None:
    response = connection.request("GET", "jobs", job_id, "archive", stream=True)
    with response, part.open("wb") as file:
        for chunk in connection.read_chunks(response):
            file.write(chunk)
    try:
        with ZipFile(part) as archive:
            damaged = archive.testzip()
    except BadZipFile:
        damaged = "the archive"
    if damaged is not None:
        raise ClientError(NO_RESPONSE, "The download was interrupted", f"{damaged} is incomplete. Download it again.")


def _append(connection: Connection, job_id: str, artifact: Artifact, part: Path) -> None:
    """Download the part of a file that is still missing, and append it to the part that is present."""
    present_bytes = part.stat().st_size if part.exists() else 0
    if present_bytes >= artifact.bytes > 0:
        return
    headers = {"Accept-Encoding": "identity"}
    if present_bytes:
        headers |= {"Range": f"bytes={present_bytes}-", "If-Range": f'"{artifact.sha256}"'}
    response = connection.request("GET", "jobs", job_id, "artifacts", artifact.name, headers=headers, stream=True)
    continued = response.status_code == HTTPStatus.PARTIAL_CONTENT
    with response, part.open("ab" if continued else "wb") as file:
        for chunk in connection.read_chunks(response):
            file.write(chunk)
            if file.tell() > artifact.bytes:
                break
    if part.stat().st_size < artifact.bytes:
        raise ClientError(
            NO_RESPONSE,
            "The download was interrupted",
            f"{artifact.name} is incomplete. Start the download again to continue it.",
        )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_file(detail: str) -> ClientError:
    return ClientError(HTTPStatus.OK, "The file cannot be used", detail)
