"""The Redis of an instance: which program is chosen, and that its files can be read by another program."""

import os
import subprocess
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from shared.errors import SettingsError
from shared.instance import redis_server
from shared.instance.redis_server import find_redis, list_command
from tests.support.instances import make_settings
from tests.support.waiting import wait_until


def make_program(folder: Path, name: str, script: str) -> str:
    program = folder / name
    program.write_text(script)
    program.chmod(0o755)
    return str(program)


def test_the_packages_contain_a_server_that_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    program = find_redis()
    assert redis_server._read_major(program) >= redis_server.MIN_MAJOR
    assert os.access(program, os.X_OK)


def test_a_server_on_the_path_is_preferred_if_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    packaged = find_redis()
    monkeypatch.setenv("PATH", str(tmp_path))
    for broken in ("no program", "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho Redis server v=6.2.14 sha=0\n"):
        make_program(tmp_path, "redis-server", broken)
        assert find_redis() == packaged
    valkey = make_program(tmp_path, "valkey-server", "#!/bin/sh\necho Valkey server v=7.2.5 sha=0\n")
    assert find_redis() == valkey
    redis = make_program(tmp_path, "redis-server", "#!/bin/sh\necho Redis server v=8.2.1 sha=0\n")
    assert find_redis() == redis


def test_a_missing_server_is_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(redis_server, "PACKAGE", "mindjobs-no-such-package")
    with pytest.raises(SettingsError, match="apt install redis-server"):
        find_redis()


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def rewrites(client: Redis) -> bool:
    state = client.info("persistence")
    return bool(state["aof_rewrite_scheduled"] or state["aof_rewrite_in_progress"])


def test_the_files_of_the_server_have_the_format_that_every_server_reads() -> None:
    """Redis 7 does not start with a base file in the binary format of Valkey 9."""
    with make_settings() as settings, subprocess.Popen(list_command(settings)) as server:
        try:
            with Redis.from_url(settings.redis) as redis:
                wait_until(lambda: answers(redis), "the server")
                redis.set("n", 1)
                redis.bgrewriteaof()
                wait_until(lambda: not rewrites(redis), "the new base file")
            files = list((settings.redis_socket.parent / "appendonlydir").iterdir())
        finally:
            server.kill()
        assert {file.suffix for file in files} == {".aof", ".manifest"}
        assert b"SET" in b"".join(file.read_bytes() for file in files if ".base" in file.name)
