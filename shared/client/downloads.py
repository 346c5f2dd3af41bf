"""A job's files, into a folder: whole and as the service stored them, or not at all."""

import hashlib
import re
from http import HTTPStatus
from pathlib import Path
from typing import Final

from shared.client.connection import Connection
from shared.client.errors import NO_ANSWER, ClientError
from shared.client.responses import Artifact

# The service decides what names there are, and none of them may lead out of the folder.
_PATHLIKE: Final = re.compile(r"[/\\\x00-\x1f\x7f]")


def download(connection: Connection, job_id: str, artifact: Artifact, folder: Path) -> Path:
    """Fetch a file; what an earlier call left of it is continued.

    Returns
    -------
    Where it lies, under its own name.

    Raises
    ------
    ClientError
        It is not there, not what was promised, or its name is a path.
    FileExistsError
        Another file of that name lies there.
    """
    if _PATHLIKE.search(artifact.name) or artifact.name in {"", ".", ".."}:
        raise _distrust(f"The name {artifact.name!r} of the job's file is a path; nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / artifact.name
    if target.exists():
        if _hash(target) == artifact.sha256:
            return target
        raise FileExistsError(f"{target} is another file already; move it, or choose another folder")
    part = folder / f".{artifact.sha256}.part"
    connection.insist(lambda: _append(connection, job_id, artifact, part))
    if _hash(part) != artifact.sha256:
        part.unlink()
        raise _distrust(f"{artifact.name} is not what its SHA-256 promised; it was thrown away, download it again.")
    return part.rename(target)


def _append(connection: Connection, job_id: str, artifact: Artifact, part: Path) -> None:
    """Fetch what is missing, from where the last try was cut."""
    have = part.stat().st_size if part.exists() else 0
    if have >= artifact.bytes > 0:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{artifact.sha256}"'}
    answer = connection.ask("GET", "jobs", job_id, "artifacts", artifact.name, headers=headers, stream=True)
    continued = answer.status_code == HTTPStatus.PARTIAL_CONTENT
    with answer, part.open("ab" if continued else "wb") as file:
        for chunk in connection.read_chunks(answer):
            file.write(chunk)
            if file.tell() > artifact.bytes:
                break
    if part.stat().st_size < artifact.bytes:
        raise ClientError(NO_ANSWER, "The download was cut", f"{artifact.name} ended early; start it again to go on.")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _distrust(detail: str) -> ClientError:
    return ClientError(HTTPStatus.OK, "The file cannot be used", detail)
