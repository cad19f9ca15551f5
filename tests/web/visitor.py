"""Somebody in front of the dashboard, without a browser: cookies, and forms with their token."""

from __future__ import annotations

import http.client
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.ledger.support import KEY, Server

_FORM = "application/x-www-form-urlencoded"


class Seen(NamedTuple):
    """A page, and where it sends its visitor."""

    status: int
    html: str
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """What is read: without tags, blanks as one."""
        plain = unescape(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", self.html, flags=re.S))
        return re.sub(r" ([,.;:])", r"\1", " ".join(plain.split()))

    @property
    def location(self) -> str:
        return self.headers.get("location", "")

    def forms(self) -> list[Form]:
        parser = _Forms()
        parser.feed(self.html)
        return parser.found

    def form(self, action: str, **fields: str) -> Form:
        """The one form that does something, to the thing that its hidden fields name."""
        for form in self.forms():
            if form.fields.get("action") == action and all(form.fields.get(k) == v for k, v in fields.items()):
                return form
        raise AssertionError(f"there is no form {action} {fields} in: {self.text[:2000]}")


class Form(NamedTuple):
    """A form with what stands in its fields, and what is said beside them."""

    target: str
    fields: dict[str, str]
    wrong: dict[str, str]


class _Forms(HTMLParser):
    """Reads forms: fields, their values, and the sentence that `aria-describedby` names of one that is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._select = self._says = ""
        self._names: dict[str, str] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.found.append(Form(given.get("action", ""), {}, {}))
        if not self.found:
            return
        fields = self.found[-1].fields
        name = given.get("name", "")
        if tag == "input" and name and (given.get("type") != "checkbox" or "checked" in given):
            fields[name] = given.get("value", "")
        if tag == "select":
            self._select = name
        if tag == "option" and self._select and ("selected" in given or self._select not in fields):
            fields[self._select] = given.get("value", "")
        if given.get("aria-invalid") == "true" and given.get("aria-describedby"):
            self._names[given["aria-describedby"]] = name
        if given.get("id") in self._names:
            self._says = self._names[given["id"]]

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        if tag == "p":
            self._says = ""

    def handle_data(self, data: str) -> None:
        if self._says:
            self.found[-1].wrong[self._says] = self.found[-1].wrong.get(self._says, "") + data


class Visitor:
    """One browser's worth of cookies."""

    def __init__(self, server: Server, key: str = KEY) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}
        page = self.get("/login")
        token = next(form.fields["csrf"] for form in page.forms() if "csrf" in form.fields)
        came = self.send("/login", {"csrf": token, "way": "key", "key": key})
        assert came.status == 303, came.text

    def get(self, path: str) -> Seen:
        return self._ask("GET", path, None, {})

    def send(self, path: str, fields: dict[str, str], **headers: str) -> Seen:
        """Post fields as they are."""
        sent = {"Content-Type": _FORM, "Sec-Fetch-Site": "same-origin", **headers}
        return self._ask("POST", path, urlencode(fields).encode(), sent)

    def do(self, path: str, action: str, _of: dict[str, str] | None = None, **fields: Any) -> Seen:
        """Open a page, fill in the form of an action, and send it. None takes a field out, as an empty box does."""
        form = self.get(path).form(action, **(_of or {}))
        filled = {**form.fields, **fields}
        return self.send(form.target, {name: str(value) for name, value in filled.items() if value is not None})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Seen:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        if self.cookies:
            headers = {**headers, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            for name, value in reply.getheaders():
                if name.lower() == "set-cookie":
                    cookie, _, rest = value.partition(";")
                    key, _, content = cookie.partition("=")
                    self.cookies[key] = content.strip('"')
                    if "max-age=0" in rest.lower():
                        del self.cookies[key]
            told = {name.lower(): value for name, value in reply.getheaders()}
            return Seen(reply.status, reply.read().decode(), told)
        finally:
            connection.close()
