"""Select the header fields that go to the upstream, and those of its answer that come back."""

import re
from collections.abc import Iterable
from typing import Final, TypeAlias
from urllib.parse import SplitResult

from litestar.types import HTTPScope

from api.doors.client_address import ClientAddresses
from api.doors.scim.connection import Answer
from api.doors.scim.framing import Unforwardable, framing_of
from api.doors.scim.location import UpstreamAddress
from api.doors.scim.target import NotPlain, below_root
from api.doors.scim_messages import ROOT
from api.http.asgi_answer import stamp

METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_EXPECTING_A_BODY: Final = frozenset({"PATCH", "POST", "PUT"})
"""Without a body they say so (RFC 9110 §8.6): some servers answer 411 otherwise."""
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade http2-settings".split()
)
"""RFC 9110 §7.6.1. Trailers could pose as headers; the server in front drops them."""
_REPLACED: Final = frozenset(
    b"content-length expect forwarded host proxy via x-real-ip x-request-id".split()
)
"""Of a request: set anew here, answered by us (Expect), or by CGI an environment variable that
programs take for a setting of their own (Proxy).
"""
_OURS: Final = (b"x-scim-", b"x-forwarded-", b"x-original-", b"x-rewrite-")
"""A proxy's word. By the last two, some servers (IIS, Symfony, Zend) take another path for the one
that was asked.
"""
_FOLDED: Final = bytes(byte if bytes([byte]).isalnum() else ord("-") for byte in range(256))
"""Behind CGI and WSGI, X_Scim_Team_Id and X-Scim-Team-Id are one header; with some servers
X.Scim.Team.Id is, too.
"""
BODILESS: Final = frozenset({204, 304})
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class BadAnswer(Exception):
    """The upstream's answer is not one that could be passed on."""


class HeaderSections:
    """The two header sections of an exchange with one upstream.

    base: its address, as it is told apart in `address`. client_addresses: of the client's address.
    """

    def __init__(
        self,
        base: str,
        address: SplitResult,
        client_addresses: ClientAddresses,
        *,
        forwards_authorization: bool,
    ) -> None:
        self._host = address.netloc.encode()
        self._path = address.path.encode()
        # An upstream that puts the prefix before its own path gets ours, where ours ends as its
        # does.
        self._prefix = ROOT.removesuffix(address.path).encode()
        self._own_address = UpstreamAddress(base)
        self._client_addresses = client_addresses
        self._forwards_authorization = forwards_authorization

    def request(self, scope: HTTPScope, identity: Headers) -> list[bytes]:
        """Request line and header lines. Raises Unforwardable, NotPlain."""
        if scope["method"] not in METHODS:
            raise Unforwardable(405, "This method is not one of SCIM.", Allow=", ".join(METHODS))
        target = (self._path + below_root(scope)) or b"/"
        if target.startswith(b"//"):  # it would be read as a host
            raise NotPlain
        query = scope["query_string"]
        request_line = b"%s %s%s HTTP/1.1" % (
            scope["method"].encode(),
            target,
            b"?" + query if query else b"",
        )
        lines = [request_line, b"host: " + self._host]
        for name, value in (*self._passed_on(scope), *identity, *self._told(scope)):
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise Unforwardable(400, "A header cannot be passed on as it is.")
            lines.append(b"%s: %s" % (name, value))
        return lines

    def _passed_on(self, scope: HTTPScope) -> Iterable[tuple[bytes, bytes]]:
        """The client's headers from end to end, and the framing of its body."""
        dropped = _HOP_BY_HOP | _REPLACED | _named_by_connection(scope["headers"])
        if not self._forwards_authorization:
            dropped |= {b"authorization"}
        for name, value in scope["headers"]:
            folded = name.translate(_FOLDED)
            if dropped.isdisjoint((name, folded)) and not folded.startswith(_OURS):
                yield name, value
        framing = framing_of(scope)
        if framing.kind == "chunked":
            yield b"transfer-encoding", b"chunked"
        elif framing.kind == "length":
            yield b"content-length", b"%d" % framing.length
        elif scope["method"] in _EXPECTING_A_BODY:
            yield b"content-length", b"0"

    def _told(self, scope: HTTPScope) -> Iterable[tuple[bytes, bytes]]:
        """What the upstream is told about the client and the way to us."""
        via = [value for name, value in scope["headers"] if name == b"via"]
        yield b"via", b", ".join([*via, f"{scope['http_version']} scim-ledger".encode()])
        yield b"x-request-id", scope["state"]["request_id"].encode()
        origin = self._client_addresses.origin(scope)
        address = self._client_addresses.address(scope)
        yield b"x-forwarded-proto", origin.scheme.encode()
        if address is not None:
            yield b"x-forwarded-for", address.encode()
        if origin.host is not None:
            yield b"x-forwarded-host", origin.host.encode("latin-1")
        if self._prefix:
            yield b"x-forwarded-prefix", self._prefix

    def answer(self, answer: Answer, scope: HTTPScope) -> list[tuple[bytes, bytes]]:
        """What of the answer's headers is passed on.

        Raises BadAnswer on what is no header, and on a coding.
        """
        names = {name for name, _ in answer.headers}
        codings = [value.lower() for name, value in answer.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            # any other is dropped here, and the body would go on coded
            raise BadAnswer("its body has another transfer coding than chunked")
        dropped = _HOP_BY_HOP | {b"date", b"x-request-id"} | _named_by_connection(answer.headers)
        if answer.status in BODILESS or b"transfer-encoding" in names:
            dropped |= {b"content-length"}
        headers = []
        for name, value in answer.headers:
            if name in dropped:
                continue
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise BadAnswer("one of its headers cannot be passed on")
            is_address = name in {b"location", b"content-location"}
            headers.append((name, self._our_address(value, scope) if is_address else value))
        return [*headers, stamp(scope)]

    def _our_address(self, value: bytes, scope: HTTPScope) -> bytes:
        public = self._client_addresses.origin(scope).url
        return self._own_address.made_ours(
            value, asked=scope["raw_path"].decode("ascii"), public=public
        )


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """The fields that the sender meant for the next hop alone."""
    return frozenset(
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    )
