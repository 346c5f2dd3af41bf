"""Looks up the addresses of hosts, with a time limit, which the resolver of the system does not have."""

import socket
import threading
from concurrent.futures import Future
from contextlib import suppress

Addresses = tuple[str, ...]


class HostLookups:
    """Looks up hosts in threads of their own: a lookup that hangs holds only its own thread.

    Parameters
    ----------
    timeout_s
        How long a caller waits for a lookup.
    max_running
        The maximum number of lookups that run at the same time, including those for which no caller waits any more.
    """

    def __init__(self, timeout_s: float, max_running: int = 1) -> None:
        self._timeout_s = timeout_s
        self._max_running = max_running
        self._slots = threading.BoundedSemaphore(max_running)

    def look_up(self, host: str, port: int) -> Addresses:
        """Return the addresses of a host.

        Raises
        ------
        OSError, UnicodeError
            The host is not known.
        TimeoutError
            The lookup takes too long, or too many lookups are running.
        """
        with suppress(socket.gaierror):
            return find_addresses(host, port, socket.AI_NUMERICHOST)  # an address needs no lookup
        if not self._slots.acquire(blocking=False):
            raise TimeoutError(f"the host {host!r} is not looked up, since too many lookups have not ended")
        found: Future[Addresses] = Future()
        threading.Thread(target=self._run, args=(host, port, found), daemon=True, name="host lookup").start()
        try:
            return found.result(self._timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"the lookup of the host {host!r} takes more than {self._timeout_s:g} s") from error

    def join(self) -> None:
        """Wait until no lookup is running."""
        for _ in range(self._max_running):
            self._slots.acquire()
        self._slots.release(self._max_running)

    def _run(self, host: str, port: int, found: "Future[Addresses]") -> None:
        try:
            addresses = find_addresses(host, port)
        except Exception as error:  # noqa: BLE001 - the caller handles it
            self._slots.release()
            found.set_exception(error)
        else:
            self._slots.release()  # before the caller continues, who may look up the next host
            found.set_result(addresses)


def find_addresses(host: str, port: int, flags: int = 0) -> Addresses:
    """Return the addresses of a host, without a time limit.

    Parameters
    ----------
    flags
        The flags of ``getaddrinfo``.

    Raises
    ------
    OSError, UnicodeError
        The host is not known.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))
