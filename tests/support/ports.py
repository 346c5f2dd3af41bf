"""Ports on loopback for the servers that tests start."""

import random
import socket
from typing import Final

# Below the ports that Linux gives to connections by default (net.ipv4.ip_local_port_range starts at 32,768).
_PORTS: Final = range(20_000, 32_000)
_reservations: Final[list[socket.socket]] = []


def reserve_port() -> int:
    """Return a free port, which this function does not return to any other process until this process ends.

    A server binds its port only after it has started. If the system chose the port, a connection or another test could
    bind the port before the server does.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        reservation = socket.socket(socket.AF_UNIX)
        try:
            # Only one socket on the machine can have this abstract name. The name is free again when the process ends.
            reservation.bind(f"\0mindjobs-tests-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port
    raise RuntimeError(f"no port of {_PORTS.start} to {_PORTS.stop - 1} is free")
