"""Downloads the files of a job; a file gets its final name only if it is complete and its SHA-256 is correct."""

import hashlib
import re
from http import HTTPStatus
from pathlib import Path
from typing import Final

from shared.client.connection import Connection
from shared.client.errors import NO_RESPONSE, ClientError
from shared.client.responses import Artifact

# The service chooses the names of the files, and no name may lead out of the folder.
_PATHLIKE: Final = re.compile(r"[/\\\x00-\x1f\x7f]")


def download(connection: Connection, job_id: str, artifact: Artifact, folder: Path) -> Path:
    """Download a file; an earlier download that was interrupted is continued.

    Returns
    -------
    The path of the file: the folder and the name of the artifact.

    Raises
    ------
    ClientError
        The file does not exist, its digest is wrong, or its name is a path.
    FileExistsError
        The folder already contains a file with this name and other content.
    """
    if _PATHLIKE.search(artifact.name) or artifact.name in {"", ".", ".."}:
        raise _refuse_file(f"The name {artifact.name!r} of the file is a path. Nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / artifact.name
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
