"""Where a page leads on to is a page of this service, whatever a link says."""

import pytest

from web.pages.safe_redirect import choose_next


@pytest.mark.parametrize(
    "wanted", ["/", "/jobs", "/jobs?state=queued&label=a%2Fb", "/knn?upload=1#k", "/jobs/é", "/a//b"]
)
def test_pages_of_this_service_are_led_to(wanted: str) -> None:
    assert choose_next(wanted, "/home") == wanted


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
    ],
)
def test_all_else_leads_home(wanted: str | None) -> None:
    assert choose_next(wanted, "/home") == "/home"
