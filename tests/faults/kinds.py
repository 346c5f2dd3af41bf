"""The kinds of fault, each declared in one row of `FAULTS`."""

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psutil
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from shared.database.tables import Base, UtcDateTime
from tests.faults.site import FILES_MB, FIND_DEADLINE_S, Site
from tests.support import network
from tests.support.waiting import wait_until

CLOCK_MOVE_S: Final = 600.0
_MOUNT: Final = Path("/bin/mount")

Choose = Callable[[Site, random.Random], psutil.Process]
Inject = Callable[[Site, random.Random], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Parameters
    ----------
    inject
        Makes the context of one fault: entering it starts the fault, leaving it ends the fault.
    lasts
        Whether the fault lasts for some seconds; otherwise it ends as soon as it has started.
    is_remote
        Whether the instance must run in a network namespace, and use servers outside of it.
    is_cheap
        Whether the service recovers from it in a few seconds, so that a short campaign can include it.
    find_obstacle
        Returns why this machine cannot inject the fault, or ``None`` if it can.
    """

    name: str
    inject: Inject
    lasts: bool = False
    is_remote: bool = False
    is_cheap: bool = False
    find_obstacle: Callable[[], str | None] = lambda: None


def _find_parent(name: str, site: Site, _random: random.Random) -> psutil.Process:
    return site.find(name)[0]


def _find_child(name: str, site: Site, random_: random.Random) -> psutil.Process:
    return random_.choice(site.find_children(name))


def _find_make(site: Site, _random: random.Random) -> psutil.Process:
    return psutil.Process(site.instance.process.pid)


def _find_module(module: str, site: Site, _random: random.Random) -> psutil.Process:
    return site.find_module(module)


PROCESSES: Final[Mapping[str, Choose]] = {
    "redis": partial(_find_parent, "redis"),
    "gunicorn parent": partial(_find_parent, "web"),
    "gunicorn worker": partial(_find_child, "web"),
    "sweeper": partial(_find_parent, "sweeper"),
    "knn worker parent": partial(_find_parent, "worker-knn"),
    "knn worker child": partial(_find_child, "worker-knn"),
    "music worker parent": partial(_find_parent, "worker-musicgen"),
    "music worker child": partial(_find_child, "worker-musicgen"),
}
"""The processes below Supervisor, which are started again by the process above them."""
UPPER_PROCESSES: Final[Mapping[str, Choose]] = {
    "make": _find_make,
    "up": partial(_find_module, "shared.instance.up"),
    "supervisord": partial(_find_module, "shared.instance.supervisord"),
}
"""The processes with which the whole instance ends."""


@contextmanager
def _kill(choose: Choose, site: Site, random_: random.Random) -> Iterator[None]:
    wait_until(lambda: _kill_one(choose(site, random_)), "a process to kill", FIND_DEADLINE_S)
    yield


def _kill_one(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:  # it has just ended because of an earlier fault
        return False
    return True


@contextmanager
def _kill_instance(choose: Choose, site: Site, random_: random.Random) -> Iterator[None]:
    """Kill an upper process, and start the next instance at once."""
    site.instance.list_children()  # so that the processes that must end are known
    choose(site, random_).kill()
    yield
    site.restart()


@contextmanager
def _suspend(choose: Choose, site: Site, random_: random.Random) -> Iterator[None]:
    process = choose(site, random_)
    with suppress(psutil.NoSuchProcess):
        process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):  # the process above it may have replaced it
            process.resume()


@contextmanager
def _flush_redis(site: Site, random_: random.Random) -> Iterator[None]:
    """Kill Redis after all of its data was deleted."""
    victim = PROCESSES["redis"](site, random_)
    wait_until(lambda: _delete_messages(site), "Redis", FIND_DEADLINE_S)
    _kill_one(victim)
    yield


def _delete_messages(site: Site) -> bool:
    try:
        with Redis.from_url(site.settings.redis) as client:
            return bool(client.flushall())
    except RedisError:  # it has just been started
        return False


@contextmanager
def _drop_packets(site: Site, _random: random.Random) -> Iterator[None]:
    """Drop the packets between the instance and its PostgreSQL, its Redis and its clients."""
    path = site.surroundings.network
    assert path is not None
    path.drop_packets()
    try:
        yield
    finally:
        path.pass_packets()


@contextmanager
def _suspend_remote_redis(site: Site, _random: random.Random) -> Iterator[None]:
    redis = site.surroundings.redis
    assert redis is not None
    redis.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.signal(signal.SIGCONT)


@contextmanager
def _kill_remote_redis(site: Site, _random: random.Random) -> Iterator[None]:
    redis = site.surroundings.redis
    assert redis is not None
    redis.stop()
    try:
        yield
    finally:
        redis.start()


@contextmanager
def _kill_postgres(site: Site, _random: random.Random) -> Iterator[None]:
    site.surroundings.postgres.kill()
    try:
        yield
    finally:
        site.surroundings.postgres.start()


@contextmanager
def _suspend_postgres(site: Site, _random: random.Random) -> Iterator[None]:
    site.surroundings.postgres.suspend()
    try:
        yield
    finally:
        site.surroundings.postgres.resume()


@contextmanager
def _fill_disk(site: Site, _random: random.Random) -> Iterator[None]:
    """Make the disk for files as small as its content."""
    disk = site.surroundings.files_disk
    assert disk is not None

    def shrink() -> bool:
        found = os.statvfs(disk)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return _resize(disk, f"{used}")

    wait_until(shrink, "the disk to be full", FIND_DEADLINE_S)
    try:
        yield
    finally:
        assert _resize(disk, f"{FILES_MB}m")


def _resize(disk: Path, size: str) -> bool:
    command = [str(_MOUNT), "-o", f"remount,size={size}", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _find_disk_obstacle() -> str | None:
    return None if os.geteuid() == 0 else "only root can mount a disk that can be made full"


@contextmanager
def _move_clock(seconds: float, site: Site, _random: random.Random) -> Iterator[None]:
    """Move the clock of the database: all stored times are moved in the other direction, in one transaction."""
    wait_until(lambda: _move_times(site, -seconds), "the times to be moved", FIND_DEADLINE_S)
    yield


def _move_times(site: Site, seconds: float) -> bool:
    try:
        with site.database.writing() as session:
            for table in Base.metadata.sorted_tables:
                columns = [column.name for column in table.columns if isinstance(column.type, UtcDateTime)]
                if columns:
                    moved = ", ".join(f"{name} = {name} + make_interval(secs => :s)" for name in columns)
                    session.execute(text(f"UPDATE {table.name} SET {moved}"), {"s": seconds})  # noqa: S608 - our names
    except OperationalError:  # a deadlock with another transaction
        return False
    return True


FAULTS: Final = (
    *(Fault(f"kill {name}", partial(_kill, choose), is_cheap="worker" in name) for name, choose in PROCESSES.items()),
    *(Fault(f"stop {name}", partial(_suspend, choose), lasts=True) for name, choose in PROCESSES.items()),
    *(Fault(f"kill {name}", partial(_kill_instance, choose)) for name, choose in UPPER_PROCESSES.items()),
    *(Fault(f"stop {name}", partial(_suspend, choose), lasts=True) for name, choose in UPPER_PROCESSES.items()),
    Fault("kill and flush redis", _flush_redis, is_cheap=True),
    Fault("kill PostgreSQL", _kill_postgres, lasts=True),
    Fault("stop PostgreSQL", _suspend_postgres, lasts=True, is_cheap=True),
    Fault("fill disk", _fill_disk, lasts=True, find_obstacle=_find_disk_obstacle),
    Fault("set clock back", partial(_move_clock, -CLOCK_MOVE_S), is_cheap=True),
    Fault("set clock forward", partial(_move_clock, CLOCK_MOVE_S)),
    *(
        Fault(name, inject, lasts=True, is_remote=True, find_obstacle=network.find_obstacle)
        for name, inject in (
            ("drop packets", _drop_packets),
            ("stop redis on another machine", _suspend_remote_redis),
            ("kill redis on another machine", _kill_remote_redis),
        )
    ),
)


def draw_faults(seed: int, count: int, faults: tuple[Fault, ...] = FAULTS) -> list[Fault]:
    """Draw faults in rounds. Each round has every fault once, so all are drawn equally often.

    The order is random, except that the faults for a remote instance follow each other, since they need another
    instance than the other faults.
    """
    random_ = random.Random(seed)  # noqa: S311 - to repeat a campaign, not to keep a secret
    drawn: list[Fault] = []
    while len(drawn) < count:
        drawn += sorted(random_.sample(faults, len(faults)), key=lambda fault: fault.is_remote)
    return drawn[:count]
