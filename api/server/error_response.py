"""Whole error responses of the protocol itself, before or instead of an application's answer, and
what the log says then.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from litestar.exceptions import LitestarException

from api.doors import scim_messages
from api.http.problem_types import PROBLEM_TYPES
from api.http.problems import FAILED, Problem, where
from api.random_ids import RandomIds

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_new_id = RandomIds()
STATUS_LINE: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}".encode() for status in range(100, 600)
}

_SLUGS = {
    400: "bad-request",
    414: "uri-too-long",
    431: "header-fields-too-large",
    500: "internal",
    501: "not-implemented",
    503: "too-many-connections",
}
_PATH: Final = re.compile(rb"(?:[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?([^?#]*)")
"""The path of a target, be it a path or a whole URL (RFC 9112 §3.2.1, §3.2.2)."""
_SCIM = (scim_messages.ROOT.encode(), scim_messages.GATEWAYS.encode())

logger = structlog.get_logger()


class Refusal(Exception):
    """What the peer is told instead of an answer; the connection ends with it.

    detail: a constant text of ours, never anything the peer sent. request_id: of the request,
    for header, body and log.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.request_id = str(_new_id())

    def to_bytes(self, fields: Iterable[tuple[bytes, bytes]], target: bytes = b"") -> bytes:
        """Return the whole response: a SCIM error (RFC 7644) to who speaks SCIM,
        else a problem (RFC 9457).

        fields: of every answer, as the server keeps them. target: of the request, as far as it is
        known.
        """
        media_type, body = _told(self.status, self.detail, target, self.request_id)
        retry_after = b"retry-after: 1\r\n" if self.status == 503 else b""  # noqa: PLR2004
        return (
            b"%s\r\n%scontent-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\n"
            b"cache-control: no-store\r\n%sconnection: close\r\n\r\n%s"
        ) % (
            STATUS_LINE[self.status],
            b"".join(b"%s: %s\r\n" % field for field in fields),
            media_type,
            len(body),
            self.request_id.encode(),
            retry_after,
            body,
        )


def failure(target: bytes, request_id: str | None) -> tuple[Sequence[tuple[bytes, bytes]], bytes]:
    """Header fields and body of the answer to a request that the application did not answer.

    request_id: of the application, None where it gave none.
    """
    request_id = request_id or str(_new_id())
    media_type, body = _told(500, FAILED, target, request_id)
    fields = [
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
    ]
    return fields, body


def log_failure(error: BaseException, *, request_id: str | None) -> None:
    """One line: what it failed by, without the message, for that may quote what was sent.

    A request that the stop of the service ended is no failure.
    """
    if isinstance(error, asyncio.CancelledError):
        logger.warning("request.cut_off", reason="the service stops", request_id=request_id)
        return
    cause = _cause(error)
    logger.error(
        "request.failed",
        error=type(cause).__qualname__,
        where=where(cause),
        request_id=request_id,
    )


def _told(status: int, detail: str, target: bytes, request_id: str) -> tuple[bytes, bytes]:
    """Media type and body: a SCIM error (RFC 7644) to who speaks SCIM, else a problem
    (RFC 9457).
    """
    match = _PATH.match(target)
    path = match[1] if match else b""
    if any(path == root or path.startswith(root + b"/") for root in _SCIM):
        return scim_messages.MEDIA_TYPE.encode(), scim_messages.error(status, detail)
    kind = PROBLEM_TYPES[_SLUGS[status]]
    said = Problem(kind.uri, kind.title, status, detail, f"urn:uuid:{request_id}")
    return b"application/problem+json", msgspec.json.encode(said)


def _cause(error: BaseException) -> BaseException:
    """What happened first: the framework wraps what breaks an answer off that has begun, and
    anyio what happens in one of its tasks.
    """
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif type(error) is LitestarException and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error
