"""The methods of each path, for 405, OPTIONS and HEAD."""

import re
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from litestar.routes import BaseRoute, HTTPRoute
from litestar.types import HTTPScope, Message, Send
from litestar.utils import normalize_path

from api.http.asgi_answer import stamped

_VARIABLE: Final = re.compile(r"\\\{[^/]+\\\}")

_ID_LENGTH: Final = 32
_ID: Final = re.compile(r"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class Methods:
    """What each path takes. HEAD wherever GET (RFC 9110 §9.1), OPTIONS everywhere."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        found: dict[str, set[str]] = {}
        for route in routes:
            if isinstance(route, HTTPRoute):
                found.setdefault(route.path_format, {"OPTIONS"}).update(route.methods)
        for methods in found.values():
            if "GET" in methods:
                methods.add("HEAD")
        self._fixed = {path: tuple(sorted(found[path])) for path in found if "{" not in path}
        self._variable = [
            (re.compile(_VARIABLE.sub("[^/]+", re.escape(path))), tuple(sorted(found[path])))
            for path in sorted(
                found.keys() - self._fixed.keys(), key=lambda path: (path.count("{"), path)
            )
        ]

    def of(self, path: str) -> Sequence[str]:
        """The methods of a path in its normal form, none where there is no such path."""
        if path in self._fixed:
            return self._fixed[path]
        return next((methods for pattern, methods in self._variable if pattern.fullmatch(path)), ())


def is_normal(path: str) -> bool:
    """Whether a path has neither an empty step nor a slash in the end, and no UUID in a form that
    none has in a body or a query, such as {…} or urn:uuid:…. The framework takes any other for the
    one that it resembles.
    """
    return path == normalize_path(path) and not any(map(_is_odd_id, path.split("/")))


def _is_odd_id(step: str) -> bool:
    if len(step) < _ID_LENGTH or _ID.fullmatch(step):
        return False
    try:
        UUID(step)
    except ValueError:
        return False
    return True


def head_only(send: Send) -> Send:
    """Of the answer to a GET what a HEAD is answered with:
    its headers, Content-Length among them.
    """
    is_over = False

    async def send_head(message: Message) -> None:
        nonlocal is_over
        if is_over:
            return
        if message["type"] == "http.response.body":
            is_over = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return send_head


async def send_options(send: Send, scope: HTTPScope, allowed: Sequence[str]) -> None:
    """Answer OPTIONS: 204, which has no content and no length of one (RFC 9110 §8.6)."""
    headers = stamped(scope, [(b"allow", ", ".join(allowed).encode())])
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
