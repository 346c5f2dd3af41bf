"""A redirect always leads to a page of this service."""

import pytest

from web.pages.safe_redirect import choose_next


@pytest.mark.parametrize(
    "wanted",
    [
        "/",
        "/jobs",
        "/jobs?state=queued&label=a%2Fb",
        "/knn?upload=1#k",
        "/jobs/é",
        "/a//b",
        "/a..b/.c?..",
        "/jobs?q=/..=/",
    ],
)
def test_path_of_this_service_is_accepted(wanted: str) -> None:
    assert choose_next(wanted, "/home", "") == wanted
    assert choose_next(wanted, "/prefix/home", "/prefix") == f"/prefix{wanted}"


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "jobs",
        "evil.example",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "HTTPS:///evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "//[",
        "https://[",
        " //evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r\nLocation: https://evil.example",
        "\t//evil.example",
        "/\x00/evil.example",
        "/jobs\n",
        "/jobs\x7f",
        "/..",
        "/../other",
        "/jobs/../../other?a",
        "/.%2E/other",
        "/%2e%2e\\other",
        "/jobs\\..\\..\\other",
    ],
)
def test_address_other_than_a_path_of_this_service_is_replaced_by_the_default(wanted: str | None) -> None:
    assert choose_next(wanted, "/prefix/home", "/prefix") == "/prefix/home"
