"""A network namespace for a process, from which only this machine can be reached, and whose packets can be dropped.

A router, which is a namespace of its own, lies between the two::

    this machine -- router -- the process's namespace

The router has no route to anywhere else. It drops packets silently, as a broken network does: if an interface were set
down instead, the sender would get an error at once.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_IP: Final = "/sbin/ip"
_COMMANDS: Final = """
netns add {router}
netns add {inside}
link add {router}a type veth peer name {router}b netns {router}
link add {router}c netns {router} type veth peer name {router}d netns {inside}
addr add 10.231.{net}.1/30 dev {router}a
link set {router}a up
-n {router} addr add 10.231.{net}.2/30 dev {router}b
-n {router} link set {router}b up
-n {router} addr add 10.231.{net}.5/30 dev {router}c
-n {router} link set {router}c up
-n {inside} addr add 10.231.{net}.6/30 dev {router}d
-n {inside} link set {router}d up
-n {inside} link set lo up
-n {inside} route add 10.231.{net}.0/30 via 10.231.{net}.5
route add 10.231.{net}.4/30 via 10.231.{net}.2
"""


@dataclass(frozen=True)
class Network:
    """The namespaces.

    Parameters
    ----------
    host, inside
        The addresses of this machine and of the process.
    program
        What to put in front of a command line, to run the command in the process's namespace.
    """

    router: str
    host: str
    inside: str
    program: tuple[str, ...]

    def drop_packets(self) -> None:
        """Drop all packets from now on."""
        for address in (self.host, self.inside):
            _run_ip(f"-n {self.router} route add blackhole {address}/32")

    def pass_packets(self) -> None:
        """Pass packets again."""
        for address in (self.host, self.inside):
            _run_ip(f"-n {self.router} route del blackhole {address}/32")


def find_obstacle() -> str | None:
    """Return why this machine cannot make network namespaces, or ``None`` if it can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if not Path(_IP).exists():
        return "the command ip (iproute2) is not installed"
    probe = subprocess.run([_IP, "netns", "exec", "none", "true"], capture_output=True, text=True, check=False)
    return None if "No such file" in probe.stderr or "Cannot open" in probe.stderr else probe.stderr


@contextmanager
def make_network() -> Iterator[Network]:
    """Make the namespaces, and remove them at the end of the block."""
    net = os.getpid() % 254 + 1  # so that tests in several processes do not disturb each other
    names = {"router": f"mj{os.getpid()}", "inside": f"mj{os.getpid()}i"}
    try:
        for command in _COMMANDS.format(**names, net=net).strip().splitlines():
            _run_ip(command)
        forward = [_IP, "netns", "exec", names["router"], "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]
        subprocess.run(forward, check=True)
        inside = (_IP, "netns", "exec", names["inside"])
        yield Network(names["router"], f"10.231.{net}.1", f"10.231.{net}.6", inside)
    finally:
        for name in names.values():  # the interfaces are removed with their namespaces
            subprocess.run([_IP, "netns", "del", name], capture_output=True, check=False)


def _run_ip(arguments: str) -> None:
    subprocess.run([_IP, *arguments.split()], check=True)
