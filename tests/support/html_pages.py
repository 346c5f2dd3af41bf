"""Reads pages and sends their forms, as a browser without JavaScript does."""

import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Attributes = dict[str, str | None]


@dataclass
class SentForm:
    """A form on a page.

    Parameters
    ----------
    action
        The address to which the form is sent; ``None`` means the address of the page.
    fields
        The values that are sent if the user changes nothing, keyed by the name of the field: a text, or a list of texts
        if there are several fields with this name.
    """

    action: str | None
    fields: dict[str, Any] = field(default_factory=dict)


class Page(HTMLParser):
    """The elements and forms of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[SentForm] = []
        self._elements: list[tuple[str, Attributes]] = []
        self._select: str | None = None
        self._textarea: str | None = None
        self.feed(text)

    @property
    def tags(self) -> set[str]:
        """The tags of the page."""
        return {name for name, _ in self._elements}

    def find_all(self, tag: str) -> list[Attributes]:
        """Return the attributes of each element with a tag."""
        return [attributes for name, attributes in self._elements if name == tag]

    def find_form(self, action: str | None) -> SentForm:
        """Return the form that is sent to an address."""
        return next(form for form in self.forms if form.action == action)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._elements.append((tag, given))
        if tag == "form":
            self.forms.append(SentForm(given.get("action")))
        if not self.forms:
            return
        fields, name = self.forms[-1].fields, given.get("name")
        if tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in given or self._select not in fields):
            fields[self._select] = given.get("value") or ""
        elif tag == "textarea":
            self._textarea = name
        elif tag == "input" and name and given.get("type") != "file":
            unchecked = given.get("type") == "checkbox" and "checked" not in given
            if not unchecked:
                _add_value(fields, name, given.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None
        if tag == "textarea":
            self._textarea = None

    def handle_data(self, data: str) -> None:
        if self._textarea:
            fields = self.forms[-1].fields
            fields[self._textarea] = fields.get(self._textarea, "") + data.removeprefix("\r\n").removeprefix("\n")


def _add_value(fields: dict[str, Any], name: str, value: str) -> None:
    earlier = fields.get(name)
    if earlier is None:
        fields[name] = value
    else:
        fields[name] = [*(earlier if isinstance(earlier, list) else [earlier]), value]


def find_message(page: str, field: str) -> str:
    """Return the error message that a page shows at a field."""
    message = re.search(rf'id="{field}-problem">([^<]*)<', page)
    assert message, page
    return unescape(message[1])


def send_form(client: FlaskClient, page: str, action: str | None = None, **fields: Any) -> TestResponse:
    """Open a page, fill in one of its forms, and send the form.

    Parameters
    ----------
    page
        The address of the page.
    action
        The address to which the form is sent; ``None`` means the address of the page.
    fields
        The values that differ from the values on the page.
    """
    form = Page(client.get(page).text).find_form(action or page)
    return client.post(action or page, data=form.fields | fields, headers={"Accept": "text/html"})
