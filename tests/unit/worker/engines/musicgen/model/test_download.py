"""Downloads of models from a hub that works or fails: complete, continued after an interruption, or refused."""

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from huggingface_hub import constants

from shared.errors import JobFailedError, JobStoppedError
from shared.kinds.musicgen.catalogue import builtin_folder, find_model
from shared.settings import Settings
from shared.texts import text
from tests.support.fake_hub import FakeHub, Refusal
from tests.support.waiting import DEADLINE_S
from worker.engines.musicgen.model.builtin_model import build_tiny
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.download import CHUNK_BYTES, Download, explain
from worker.engines.musicgen.model.download_cache import DownloadLimits
from worker.engines.musicgen.model.model_folder import PLAIN_DOWNLOADS, ROOT, fetch, is_download_needed
from worker.engines.musicgen.model.weights import Weights

NAME = "someone/music"
WEIGHTS = "model.safetensors"
CUT = 4 * CHUNK_BYTES
LIMITS = DownloadLimits(max_model_bytes=2**62, max_cache_bytes=2**62)


class Reports:
    """Records the progress reports, and stops the job when ``stop_at`` bytes are downloaded."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.done: list[tuple[int, int]] = []
        self._stop_at = stop_at

    def __call__(self, *, stage: str, done: int, total: int, unit: str) -> None:
        assert (stage, unit) == ("downloading", "bytes")
        self.done.append((done, total))
        if self._stop_at is not None and done >= self._stop_at:
            raise JobStoppedError(text("cancelled"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": b"---\nlicense: mit\n---\n"}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.models[NAME] = dict(files)
        yield hub


@pytest.fixture
def settings(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of an instance, and make the fake hub the only hub that the instance uses."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return Settings(home=tmp_path / "home", models_dir=tmp_path / "models", models_allowed="someone/*,some--one/*")


def ignore(*, stage: str, done: int, total: int, unit: str) -> None:
    """Ignore the progress."""


def fail(settings: Settings, name: str = NAME) -> JobFailedError:
    with pytest.raises(JobFailedError) as caught:
        fetch(settings, name, ignore)
    assert find_model(settings, name) is None
    return caught.value


def fail_here(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: DownloadLimits = LIMITS
) -> JobFailedError:
    """Run a download that must fail, and return the error.

    The download runs in this process, because a new process would take longer.
    """
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    with pytest.raises(JobFailedError) as caught:
        Download(NAME, tmp_path / "cache", limits).run()
    assert len(hub.asked) == 1
    assert [path.name for path in tmp_path.glob("cache/*")] in ([], [".locks"])
    return caught.value


def count_small(files: dict[str, bytes]) -> int:
    return sum(len(content) for name, content in files.items() if name != WEIGHTS)


def test_only_the_needed_files_are_downloaded(settings: Settings, hub: FakeHub, files: dict[str, bytes]) -> None:
    hub.models[NAME] |= {"pytorch_model.bin": b"pickle", "state_dict.bin": b"pickle", "sub/model.safetensors": b"other"}
    reports = Reports()
    folder = fetch(settings, NAME, reports)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    Weights.open(folder, ModelConfig.read(folder)).read("enc_to_dec_proj.weight")
    total = sum(map(len, files.values()))
    assert reports.done[-1] == (total, total)
    assert all(before[0] <= after[0] for before, after in pairwise(reports.done))


def test_a_model_on_this_machine_is_not_requested_from_the_hub(settings: Settings, hub: FakeHub) -> None:
    folder = fetch(settings, NAME, ignore)
    asked = len(hub.asked)
    assert fetch(settings, NAME, ignore) == folder
    assert len(hub.asked) == asked


def test_shards_are_downloaded_with_their_index(settings: Settings, hub: FakeHub) -> None:
    del hub.models[NAME][WEIGHTS]
    shards = {f"model-0000{index}-of-00002.safetensors": bytes([index]) * 1000 for index in (1, 2)}
    index = {"weight_map": {str(number): name for number, name in enumerate(shards)}}
    hub.models[NAME] |= shards | {f"{WEIGHTS}.index.json": str(index).replace("'", '"').encode()}
    folder = fetch(settings, NAME, ignore)
    assert {path.name for path in folder.iterdir()} == hub.models[NAME].keys()


def test_a_download_continues_at_the_byte_at_which_the_connection_broke(
    settings: Settings, hub: FakeHub, files: dict[str, bytes]
) -> None:
    hub.cut_at, hub.cuts = CUT, 1
    folder = fetch(settings, NAME, ignore)
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert [asked.range for asked in hub.list_gets(WEIGHTS)] == [None, f"bytes={CUT}-"]
    assert sum(asked.sent for asked in hub.list_gets(WEIGHTS)) == len(files[WEIGHTS])


def test_a_download_fails_after_connections_without_progress_and_continues_later(
    settings: Settings, hub: FakeHub, files: dict[str, bytes]
) -> None:
    hub.cut_at, hub.cuts = CUT, 100
    error = fail(settings)
    assert error.type == "model-unavailable"
    assert "Try again later" in error.detail
    hub.cuts = 0
    folder = fetch(settings, NAME, ignore)
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert sum(asked.sent for asked in hub.list_gets(WEIGHTS)) == len(files[WEIGHTS])


def test_a_download_can_be_stopped_while_the_hub_sends_nothing_and_continued_later(
    settings: Settings, hub: FakeHub, files: dict[str, bytes]
) -> None:
    hub.hold_at = CUT
    # After `CUT` bytes, the hub sends nothing until `released` is set below. A report stops the job when these bytes
    # have arrived, so the job is stopped while the hub holds back all later bytes.
    with pytest.raises(JobStoppedError):
        fetch(settings, NAME, Reports(stop_at=count_small(files) + CUT))
    assert find_model(settings, NAME) is None
    hub.released.set()
    reports = Reports()
    folder = fetch(settings, NAME, reports)
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert [asked.range for asked in hub.list_gets(WEIGHTS)] == [None, f"bytes={CUT}-"]
    assert min(done for done, total in reports.done if total) >= count_small(files) + CUT


@pytest.mark.usefixtures("settings")
def test_the_download_process_ends_when_its_output_pipe_is_closed(hub: FakeHub, tmp_path: Path) -> None:
    hub.hold_at = CUT
    command = [
        sys.executable,
        "-P",
        "-m",
        "worker.engines.musicgen.model.download",
        NAME,
        str(tmp_path / "cache"),
        LIMITS.serialize(),
    ]
    environment = os.environ | PLAIN_DOWNLOADS | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 1


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(HTTPStatus.NOT_FOUND, {"X-Error-Code": "RepoNotFound"}), "There is no model someone/music"),
        (Refusal(HTTPStatus.NOT_FOUND), "There is no model someone/music"),
        (Refusal(HTTPStatus.UNAUTHORIZED, {"X-Error-Code": "RepoNotFound"}), "set HF_TOKEN"),
        (Refusal(HTTPStatus.FORBIDDEN), "set HF_TOKEN"),
        (Refusal(HTTPStatus.FORBIDDEN, {"X-Error-Code": "GatedRepo"}), "accepted its conditions"),
        (Refusal(HTTPStatus.INTERNAL_SERVER_ERROR), "responded with 500"),
        (Refusal(HTTPStatus.OK), "does not respond as a hub does"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_the_error_explains_the_response_of_the_hub(
    hub: FakeHub, refusal: Refusal, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refusal = refusal
    error = fail_here(hub, tmp_path, monkeypatch)
    assert error.type == "model-unavailable"
    assert words in error.detail


def test_the_token_is_sent_to_the_hub(settings: Settings, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "open"  # noqa: S105 - only the fake hub has this token
    assert "HF_TOKEN" in fail(settings).detail
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert fetch(settings, NAME, ignore).is_dir()


def test_the_token_is_not_sent_to_a_server_to_which_the_hub_redirects(
    settings: Settings, hub: FakeHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with FakeHub() as elsewhere:
        elsewhere.models[NAME] = dict(files)
        hub.redirect_to = elsewhere.url
        folder = fetch(settings, NAME, ignore)
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert {asked.authorization for asked in hub.asked} == {"Bearer secret"}
    assert {asked.file for asked in elsewhere.asked} >= {"config.json", WEIGHTS}
    assert {asked.authorization for asked in elsewhere.asked} == {None}


@pytest.mark.parametrize("allowed", ["known", "else/*,someone/other"])
def test_nothing_is_requested_for_a_model_that_is_not_allowed(
    settings: Settings, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(settings, NAME, ignore)
    hub.asked.clear()
    settings = settings.model_copy(update={"models_allowed": allowed})
    for name in (NAME, "someone/unknown"):  # the first one lies in the cache
        with pytest.raises(JobFailedError) as caught:
            fetch(settings, name, ignore)
        assert caught.value.type == "model-not-allowed"
        assert "MINDJOBS_MODELS_ALLOWED" in caught.value.detail
        assert not is_download_needed(settings, name)
    assert hub.asked == []


@pytest.mark.usefixtures("settings")
def test_nothing_is_downloaded_of_a_model_that_is_too_large(
    hub: FakeHub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(LIMITS, max_model_bytes=sum(map(len, files.values())) - 1)
    error = fail_here(hub, tmp_path, monkeypatch, limits)
    assert error.type == "model-too-large"
    assert "MINDJOBS_MAX_MODEL_MB" in error.detail


def test_the_limits_of_the_settings_are_passed_on(settings: Settings, hub: FakeHub, files: dict[str, bytes]) -> None:
    hub.models[NAME]["model.safetensors"] = bytes(2**20)
    assert fail(settings.model_copy(update={"max_model_mb": 1})).type == "model-too-large"
    assert fail(settings.model_copy(update={"max_model_cache_mb": 1})).type == "model-cache-full"
    assert not [asked for asked in hub.asked if asked.file in files]


def test_a_file_is_not_stored_beyond_the_size_that_the_hub_states(settings: Settings, hub: FakeHub) -> None:
    hub.claimed_bytes = 3_000_000
    hub.models[NAME] = {"config.json": b"{}", "tokenizer.json": b"{}", WEIGHTS: bytes(2 * hub.claimed_bytes)}
    error = fail(settings)
    assert error.type == "model-unavailable"
    assert f"more of {WEIGHTS}" in error.detail
    stored = [path for path in Path(constants.HF_HUB_CACHE).rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in stored) <= hub.claimed_bytes
    assert not [path for path in stored if path.suffix == ".incomplete"]


def test_a_download_whose_process_is_killed_continues(
    settings: Settings, hub: FakeHub, files: dict[str, bytes]
) -> None:
    hub.hold_at = CUT
    killed: list[psutil.Process] = []

    def kill_once(*, stage: str, done: int, total: int, unit: str) -> None:
        assert (stage, unit) == ("downloading", "bytes")
        if not killed and total and done >= count_small(files) + CUT:
            children = psutil.Process().children()
            killed.extend(child for child in children if NAME in child.cmdline())
            killed[0].kill()
            hub.released.set()

    folder = fetch(settings, NAME, kill_once)
    assert len(killed) == 1
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert [asked.range for asked in hub.list_gets(WEIGHTS)] == [None, f"bytes={CUT}-"]


def test_an_unreachable_hub_is_reported(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:  # the socket does not listen, so connections are refused
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{bound.getsockname()[1]}")
        error = fail(settings)
    assert error.type == "model-unavailable"
    assert "cannot be reached" in error.detail
    for remedy in ("MINDJOBS_MODELS_DIR", "HF_ENDPOINT", "mindjobs/tiny"):
        assert remedy in error.detail


def test_no_request_is_sent_in_offline_mode(settings: Settings, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = fail(settings)
    assert error.type == "model-unavailable"
    assert "HF_HUB_OFFLINE" in error.detail
    assert hub.asked == []


def test_an_invalid_model_name_is_refused_without_a_request(settings: Settings, hub: FakeHub) -> None:
    assert "not a valid name on a hub" in fail(settings, "some--one/music").detail
    assert hub.asked == []


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ({WEIGHTS}, "safe_serialization=True"),
        ({WEIGHTS, "pytorch_model.bin"}, "has no model.safetensors"),
        ({"config.json"}, "has no config.json"),
        ({"tokenizer.json"}, "has no tokenizer.json"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_nothing_is_downloaded_of_a_model_that_cannot_be_used(
    hub: FakeHub, without: set[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = hub.models[NAME] | {"pytorch_model.bin": b"pickle"}
    hub.models[NAME] = {name: content for name, content in every.items() if name not in without}
    error = fail_here(hub, tmp_path, monkeypatch)
    assert error.type == "model-invalid"
    assert words in error.detail


@pytest.mark.usefixtures("settings")
def test_nothing_is_downloaded_if_the_disk_has_too_little_space(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.claimed_bytes = 10**18
    error = fail_here(hub, tmp_path, monkeypatch)
    assert error.type == "disk-full"
    assert "HF_HOME" in error.detail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported(number: int, tmp_path: Path) -> None:
    error = explain(OSError(number, os.strerror(number)), NAME, tmp_path)
    assert error.type == "disk-full"
    assert str(tmp_path) in error.detail


def test_a_cache_folder_that_cannot_be_created_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    assert "cannot be stored in" in fail(settings).detail


def test_a_partial_file_that_is_too_long_is_downloaded_again(
    settings: Settings, hub: FakeHub, files: dict[str, bytes], tmp_path: Path
) -> None:
    tag = hub.describe(NAME)["siblings"][[*files].index(WEIGHTS)]["lfs"]["sha256"]
    blobs = tmp_path / "hf" / "hub" / "models--someone--music" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{tag}.incomplete").write_bytes(files[WEIGHTS] + b"more")
    folder = fetch(settings, NAME, ignore)
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_an_incomplete_folder_of_the_user_is_reported_and_not_replaced(
    settings: Settings, hub: FakeHub, tmp_path: Path
) -> None:
    own = tmp_path / "models" / NAME
    own.mkdir(parents=True)
    (own / "pytorch_model.bin").write_bytes(b"pickle")
    assert "safe_serialization=True" in fail(settings).detail
    (own / WEIGHTS).write_bytes(b"")
    error = fail(settings)
    assert error.type == "model-invalid"
    assert "config.json is missing" in error.detail
    assert hub.asked == []


def run_together(call: Callable[[], object], times: int) -> None:
    barrier = threading.Barrier(times)

    def wait_and_call() -> None:
        barrier.wait()
        call()

    threads = [threading.Thread(target=wait_and_call) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_tiny_model_is_built_once_for_concurrent_calls(settings: Settings, hub: FakeHub) -> None:
    found: list[Path] = []
    run_together(lambda: found.append(fetch(settings, "mindjobs/tiny", ignore)), 3)
    folder = builtin_folder(settings)
    assert found == [folder] * 3
    assert list(folder.parent.iterdir()) == [folder]
    Weights.open(folder, ModelConfig.read(folder))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 7e6
    assert hub.asked == []


def test_an_incomplete_folder_of_the_tiny_model_is_reported(settings: Settings) -> None:
    folder = builtin_folder(settings)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert "delete that folder" in fail(settings, "mindjobs/tiny").detail
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
