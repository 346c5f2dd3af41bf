import logging
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import RENAMED, Settings, load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_describe_a_complete_instance(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.home == tmp_path / "var"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database == f"sqlite:///{tmp_path}/var/mindjobs.sqlite"
    assert settings.redis == f"unix://{tmp_path}/var/redis/redis.sock?db=0"
    assert settings.storage == f"file://{tmp_path}/var/files"
    assert settings.hard_limit_s > settings.max_timeout_s


def test_environment_overrides_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MINDJOBS_PORT=9000\nMINDJOBS_REDIS_URL=redis://there:6379/1\nOTHER=1\n")
    monkeypatch.setenv("MINDJOBS_PORT", "9001")
    monkeypatch.setenv("MINDJOBS_DATABASE_URL", "")
    settings = load_settings()
    assert settings.port == 9001
    assert settings.redis == "redis://there:6379/1"
    assert not settings.owns_redis
    assert settings.database.startswith("sqlite://")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "seventy", "MINDJOBS_PORT"),
        ("PORT", "70000", "MINDJOBS_PORT"),
        ("LEASE_S", "2", "three times MINDJOBS_HEARTBEAT_S"),
        ("TIMEOUT_S", "999999999", "MINDJOBS_MAX_TIMEOUT_S"),
        ("HOME", "/" + "deep/" * 30, "is too long"),
        ("MODELS_ALLOWED", "me/mine, musicgen-small", "MINDJOBS_MODELS_ALLOWED: 'musicgen-small' is no model"),
        ("MODELS_ALLOWED", "*/small", "ORG/NAME"),
    ],
)
def test_invalid_setting_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"MINDJOBS_{name}", value)
    with pytest.raises(SettingsError, match=words):
        load_settings()


@pytest.mark.parametrize(
    "address",
    [
        "redis://:hidden/word@there:6379/0",
        "redis://:hidden#word@there:6379/0",
        "redis://:hidden?word@there:6379/0",
        "redis://:hiddenword@there:99999/0",
        "redis://:hiddenword@there:6379/first",
        "unix:///run/redis.sock?db=0&password=hiddenword",
        "unix://:hiddenword@",
        "http://:hiddenword@there:6379/0",
        "hiddenword",
    ],
)
def test_invalid_address_of_redis_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MINDJOBS_REDIS_URL", address)
    with pytest.raises(SettingsError, match="MINDJOBS_REDIS_URL is not the address of a Redis") as refusal:
        load_settings()
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    [
        "redis://there",
        "redis://there:6379/1",
        "rediss://name:pass%2Fword@there:6379/0?ssl_cert_reqs=required",
        "redis://:p@ss@[::1]:6379",
        "unix:///run/redis.sock",
        "unix://:p%3Fss@/run/redis.sock?db=1",
    ],
)
def test_valid_address_of_redis_is_accepted(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MINDJOBS_REDIS_URL", address)
    settings = load_settings()
    assert settings.redis == address
    assert address not in repr(settings)


def test_short_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINDJOBS_SECRET", "x" * 31)
    with pytest.raises(SettingsError, match="MINDJOBS_SECRET must have at least 32 random characters"):
        load_settings()
    monkeypatch.setenv("MINDJOBS_SECRET", "x" * 32)
    assert load_settings().secret == "x" * 32


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED.items()))
def test_old_name_of_a_setting_is_refused_with_the_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    assert new.lower() in Settings.model_fields
    (tmp_path / ".env").write_text(f"MINDJOBS_{old}=7\n")
    with pytest.raises(SettingsError, match=f"MINDJOBS_{old} is called MINDJOBS_{new} now"):
        load_settings()
    (tmp_path / ".env").unlink()
    monkeypatch.setenv(f"MINDJOBS_{old}", "7")
    with pytest.raises(SettingsError, match=f"MINDJOBS_{old} is called MINDJOBS_{new} now"):
        load_settings()
    monkeypatch.setenv(f"MINDJOBS_{old}", "")
    load_settings()


def test_unknown_setting_logs_a_warning_with_the_most_similar_setting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MINDJOBS_MAX_UPLOAD_BYTE", "7")
    monkeypatch.setenv("MINDJOBS_SERVER", "http://127.0.0.1:8000")  # a variable of the client
    with caplog.at_level(logging.WARNING):
        load_settings()
    assert [record.getMessage() for record in caplog.records] == [
        "MINDJOBS_MAX_UPLOAD_BYTE is not a setting and is ignored; did you mean MINDJOBS_MAX_UPLOAD_BYTES?"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUSTED_HOSTS", "https://jobs.example.org"),
        ("TRUSTED_HOSTS", "jobs.example.org, *"),
        ("TRUSTED_HOSTS", "jobs.example.org/mindjobs"),
        ("TRUSTED_HOSTS", f"{'a' * 64}.org"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "app.example.org"),
        ("CORS_ORIGINS", "https://app.example.org, https://app.example.org/"),
        ("CORS_ORIGINS", "https://app.example.org:443"),
        ("CORS_ORIGINS", "http://app.example.org:80"),
        ("CORS_ORIGINS", "ftp://app.example.org"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "all"),
    ],
)
def test_invalid_hosts_origins_and_proxies_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MINDJOBS_{name}", value)
    with pytest.raises(SettingsError, match=f"MINDJOBS_{name}"):
        load_settings()


def test_names_of_hosts_and_origins_are_split_and_written_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDJOBS_TRUSTED_HOSTS", "Jobs.example.org,[2001:DB8::1]:8000 , .example.net,web_1,")
    monkeypatch.setenv("MINDJOBS_CORS_ORIGINS", "HTTPS://App.example.org, http://[::1]:3000,http://localhost:8080")
    settings = load_settings()
    assert settings.named_hosts == ["jobs.example.org", "[2001:db8::1]", ".example.net", "web_1"]
    expected = {"https://app.example.org", "http://[::1]:3000", "http://localhost:8080"}
    assert settings.allowed_origins == expected


def test_instance_behind_a_proxy_is_not_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().on_loopback
    monkeypatch.setenv("MINDJOBS_TRUSTED_PROXIES", "1")
    assert not load_settings().on_loopback
    assert "localhost" in (load_settings().host_names or [])
