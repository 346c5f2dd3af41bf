"""The settings of pip become environment variables for uv."""

import pytest

from shared.installer.pip import convert_to_uv, read_settings

LISTING = r"""
global.extra-index-url='https://one.example/simple\nhttps://two.example/simple'
global.index-url='https://global.example/simple'
install.index-url='https://install.example/simple'
download.index-url='https://download.example/simple'
:env:.cert='/etc/certificates.pem'
"""


def list_settings(listing: str) -> dict[str, str]:
    return read_settings(("echo", listing))  # echo prints the listing, and then pip's arguments "config list"


def test_settings_of_pip_are_read() -> None:
    assert list_settings(LISTING) == {
        "extra-index-url": "https://one.example/simple\nhttps://two.example/simple",
        "index-url": "https://install.example/simple",
        "cert": "/etc/certificates.pem",
    }


def test_environment_overrides_the_files_of_pip() -> None:
    settings = list_settings(":env:.index-url='https://here.example/simple'\n" + LISTING)
    assert settings["index-url"] == "https://here.example/simple"


def test_no_variable_is_set_if_pip_has_no_settings() -> None:
    assert convert_to_uv({}, {}) == {}


@pytest.mark.parametrize(
    ("name", "value", "variable", "expected"),
    [
        ("index-url", "https://a.example/simple", "UV_DEFAULT_INDEX", "https://a.example/simple"),
        ("extra-index-url", "https://a.example\nhttps://b.example", "UV_INDEX", "https://a.example https://b.example"),
        ("find-links", "/a /b", "UV_FIND_LINKS", "/a,/b"),
        ("no-index", "true", "UV_NO_INDEX", "true"),
        ("trusted-host", "a.example", "UV_INSECURE_HOST", "a.example"),
        ("cert", "/a.pem", "SSL_CERT_FILE", "/a.pem"),
        ("client-cert", "/a.pem", "SSL_CLIENT_CERT", "/a.pem"),
        ("proxy", "http://a.example:8080", "ALL_PROXY", "http://a.example:8080"),
        ("timeout", "180", "UV_HTTP_TIMEOUT", "180"),
        ("default-timeout", "180", "UV_HTTP_TIMEOUT", "180"),
    ],
)
def test_setting_of_pip_becomes_a_variable_for_uv(name: str, value: str, variable: str, expected: str) -> None:
    assert convert_to_uv({name: value}, {}) == {variable: expected}


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_variable_that_is_already_set_for_uv_is_kept(variable: str) -> None:
    assert convert_to_uv({"index-url": "https://a.example/simple"}, {variable: "https://b.example/simple"}) == {}
