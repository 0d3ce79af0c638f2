"""A browser's requests without a browser: its cookies, and what it says of where a form is from."""

import re
from collections.abc import Mapping
from html import unescape
from types import TracebackType
from typing import Final, Self

import httpx

BASE_URL: Final = "https://tokens.example.com/scim/v2"
SAME_ORIGIN: Final = {"Sec-Fetch-Site": "same-origin"}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
_SECRET: Final = re.compile(r"\b(?:scim|api)_live_[0-9A-Za-z]{49}\b")


class Visitor:
    """Asks for pages, follows no redirect by itself, and sends forms as a page of ours does."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.client.close()

    def sign_in(self, secret: str) -> httpx.Response:
        """With an API token."""
        answer = self.send("/console/sign-in", {"token": secret})
        assert answer.status_code == 303, answer.text
        return answer

    def see(self, path: str, **query: str) -> httpx.Response:
        """A page."""
        return told_whole(self.client.get(path, params=query or None))

    def send(self, path: str, fields: Mapping[str, str]) -> httpx.Response:
        """A form."""
        return told_whole(self.client.post(path, data=dict(fields), headers=SAME_ORIGIN))


def told_whole(page: httpx.Response) -> httpx.Response:
    """A page says in its headers what any answer of its status says: when to come again (whole
    seconds), or what to show.
    """
    if page.status_code == 429:
        assert page.headers["retry-after"].isdigit()
    if page.status_code == 401:
        assert page.headers["www-authenticate"].startswith("Bearer ")
    return page


def hidden(page: httpx.Response) -> dict[str, str]:
    """The fields that a page's forms send without being asked."""
    return {name: unescape(value) for name, value in _HIDDEN.findall(page.text)}


def secrets_in(text: str) -> set[str]:
    """What is a secret of ours in a text."""
    return set(_SECRET.findall(text))


def assert_guarded(answer: httpx.Response) -> None:
    """It says what a browser may do with it."""
    assert answer.headers.get_list("content-security-policy") == [POLICY]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-request-id" in answer.headers
