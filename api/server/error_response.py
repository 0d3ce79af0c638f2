"""Whole error responses of the protocol itself, before or instead of an application's answer."""

import secrets

import msgspec

from api.doors import scim_messages
from api.http.problem_types import PROBLEM_TYPES
from api.server.exchange import STATUS_LINE

_SLUGS = {
    400: "bad-request",
    414: "uri-too-long",
    431: "header-fields-too-large",
    501: "not-implemented",
    503: "too-many-connections",
}
_SCIM = scim_messages.ROOT.encode()


class Refusal(Exception):
    """What the peer is told instead of an answer; the connection ends with it.

    detail: a constant text of ours, never anything the peer sent.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def to_bytes(self, target: bytes = b"") -> bytes:
        """Return the whole response: a SCIM error (RFC 7644) to who speaks SCIM,
        else a problem (RFC 9457).

        target: of the request, as far as it is known.
        """
        path = target.partition(b"?")[0]
        if path == _SCIM or path.startswith(_SCIM + b"/"):
            media_type, body = (
                scim_messages.MEDIA_TYPE,
                scim_messages.error(self.status, self.detail),
            )
        else:
            kind = PROBLEM_TYPES[_SLUGS[self.status]]
            media_type = "application/problem+json"
            body = msgspec.json.encode(
                {
                    "type": kind.uri,
                    "title": kind.title,
                    "status": self.status,
                    "detail": self.detail,
                }
            )
        retry_after = b"retry-after: 1\r\n" if self.status == 503 else b""  # noqa: PLR2004
        return (
            b"%s\r\ncontent-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\n"
            b"cache-control: no-store\r\n%sconnection: close\r\n\r\n%s"
        ) % (
            STATUS_LINE[self.status],
            media_type.encode(),
            len(body),
            secrets.token_hex(16).encode(),
            retry_after,
            body,
        )
