"""The types of file store, keyed by the scheme of the address; one line for each type."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from shared.errors import SettingsError
from shared.files.file_store import FileStore
from shared.files.local import LocalFileStore
from shared.texts import text

FILE_STORES: Final[Mapping[str, Callable[[str], FileStore]]] = {"file": LocalFileStore.from_url}


def open_file_store(url: str) -> FileStore:
    """Open the file store that an address names; the store connects only when it is used for the first time.

    Raises
    ------
    SettingsError
        No type of store has this scheme, or the store refuses the address.
    """
    open_store = FILE_STORES.get(urlsplit(url).scheme)
    if open_store is None:
        known = ", ".join(f"{scheme}://" for scheme in FILE_STORES)
        raise SettingsError(text("storage-scheme-unknown", url=url, known=known))
    return open_store(url)
