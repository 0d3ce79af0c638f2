"""The streaming reverse proxy behind `/scim/v2`: it forwards authenticated requests upstream.

A request goes on as its own parts: a method of SCIM, a path below the upstream's own (`target.py`),
headers from end to end, and a body whose length is counted here. Bodies pass in pieces, both ways;
neither side is read faster than the other one takes it, and they are never looked at: links inside
them are the upstream's, made from X-Forwarded-Proto, -Host and -Prefix if it cares. Its own address
in a Location becomes ours (`location.py`). Redirects are passed on, never followed.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

import structlog
from litestar.types import HTTPScope, Receive, Send

from api.doors import scim_messages
from api.doors.client_address import ClientAddresses
from api.doors.scim import tls
from api.doors.scim.client import Answering, Client
from api.doors.scim.connection import Answer, Broken, Connection
from api.doors.scim.framing import Framing, Unforwardable, framing_of
from api.doors.scim.header_sections import BODILESS, METHODS, BadAnswer, HeaderSections
from api.doors.scim.pool import MAX_CONNECTIONS, NoSlot, Origin, Pool, ShareTaken, UpstreamSlots
from api.doors.scim.target import PLAINLY, NotPlain
from api.http.asgi_answer import respond
from api.http.problems import BROKEN_OFF
from api.settings import Settings
from domain.instruments import NOT_COUNTED, Counter

__all__ = ["MAX_CONNECTIONS", "METHODS", "Upstream"]

RETRY_AFTER_S: Final = 1

_FAULTS: Final = frozenset({502, 504})
"""Of the upstream's, or of the way there."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

logger = structlog.get_logger()


class Upstream:
    """The SCIM service of the settings, with a pool of connections of this process."""

    def __init__(
        self,
        settings: Settings,
        client_addresses: ClientAddresses,
        *,
        limited: Counter[str] = NOT_COUNTED,
    ) -> None:
        self._limited = limited
        assert settings.scim_upstream_url is not None
        base = settings.scim_upstream_url.rstrip("/")
        address = urlsplit(base)
        assert address.hostname is not None
        is_tls = address.scheme == "https"
        origin = Origin(is_tls, address.hostname, address.port or (443 if is_tls else 80))
        self._headers = HeaderSections(
            base, address, client_addresses, forwards_authorization=settings.forward_authorization
        )
        self._head_timeout_s = settings.upstream_head_timeout_s
        self._idle_timeout_s = settings.upstream_idle_timeout_s
        self._slots = UpstreamSlots()
        self._pool = Pool(origin, connect_timeout_s=settings.upstream_connect_timeout_s)

    async def forward(
        self,
        scope: HTTPScope,
        receive: Receive,
        send: Send,
        identity: Sequence[tuple[bytes, bytes]],
    ) -> None:
        """Answer an authenticated request with what the upstream says.

        identity: its headers, all of them.
        """
        deadline = asyncio.timeout(None)
        client = Client(receive, deadline, idle_s=self._idle_timeout_s, head_s=self._head_timeout_s)
        answering = Answering(send)
        try:
            head, framing = self._headers.request(scope, identity), framing_of(scope)
            async with (
                self._slots.taken(dict(identity)[b"x-scim-token-id"]),
                deadline,
                client.watched(has_body=framing.kind != "none"),
            ):
                await self._exchange(head, framing, scope, client, answering)
        except _FAILURES as error:
            self._limited.add(_LIMITS.get(type(error), ""))
            status, detail, more = _told(error, is_client_awaited=client.is_awaited)
            if status in _FAULTS and not client.has_left:
                logger.warning(
                    "upstream.failed",
                    reason=_reason(error),
                    is_answer_begun=answering.has_begun,
                    request_id=scope["state"]["request_id"],
                )
        else:
            return
        if answering.has_begun or client.has_left:
            # The server closes the connection: an answer that stops short must not look whole.
            scope["state"][BROKEN_OFF] = True
            return
        body = scim_messages.error(status, detail)
        await respond(
            send, scope, status=status, media_type=scim_messages.MEDIA_TYPE, body=body, headers=more
        )

    async def aclose(self) -> None:
        """Close the idle connections; there are no others when the server has stopped."""
        self._pool.close()

    async def _exchange(
        self,
        head: Sequence[bytes],
        framing: Framing,
        scope: HTTPScope,
        client: Client,
        answering: Answering,
    ) -> None:
        connection, answer = await self._ask(head, framing, scope, client)
        try:
            await self._relay(answer, scope, client, answering)
        finally:
            self._pool.give_back(connection)

    async def _ask(
        self, head: Sequence[bytes], framing: Framing, scope: HTTPScope, client: Client
    ) -> tuple[Connection, Answer]:
        """Ask over a connection that was kept, if there is one.

        Where that turns out to have been closed meanwhile, whatever is safe to ask twice goes over
        a new one.
        """
        is_head = scope["method"] == "HEAD"
        body = None if framing.kind == "none" else client.body(framing)
        kind: Literal["length", "chunked"] = "chunked" if framing.kind == "chunked" else "length"
        connection = self._pool.kept()
        if connection is not None:
            try:
                return connection, await connection.ask(head, body, framing=kind, is_head=is_head)
            except Broken:
                connection.close()
                if body is not None or scope["method"] not in _SAFE or connection.was_answered:
                    raise
            except BaseException:
                connection.close()
                raise
        connection = await self._pool.fresh()
        try:
            return connection, await connection.ask(head, body, framing=kind, is_head=is_head)
        except BaseException:
            connection.close()
            raise

    async def _relay(
        self, answer: Answer, scope: HTTPScope, client: Client, answering: Answering
    ) -> None:
        if not 200 <= answer.status <= 599:  # noqa: PLR2004 - 101 would be another protocol, 600 is none
            raise BadAnswer(f"its status is {answer.status}")
        client.is_answered = True
        if answer.status == 401:  # noqa: PLR2004 - the provider takes its good token for bad
            logger.warning("upstream.unauthorized", request_id=scope["state"]["request_id"])
        is_bodiless = scope["method"] == "HEAD" or answer.status in BODILESS
        await answering.begin(answer.status, self._headers.answer(answer, scope))
        is_last = False
        while not is_last:
            client.grant_idle()
            piece = b"" if is_bodiless else await answer.read()
            is_last = not piece or answer.is_read
            client.grant_idle()
            client.is_taking = True
            await answering.go_on(piece, is_last=is_last)
            client.is_taking = False


_FAILURES: Final = (Unforwardable, NotPlain, ShareTaken, NoSlot, Broken, BadAnswer, OSError)

_LIMITS: Final = {ShareTaken: "upstream_share", NoSlot: "upstream_connections"}


_UNREACHED: Final = "The SCIM service behind this address cannot be reached."
_BROKEN: Final = "The SCIM service behind this address broke off, or answered no HTTP."
"""It was reached, and may have done what it was asked."""


def _told(error: Exception, *, is_client_awaited: bool) -> tuple[int, str, Mapping[str, str]]:
    """Status, detail and headers for a request that did not go through."""
    match error:
        case Unforwardable():
            return error.status, error.detail, error.headers
        case NotPlain():
            return 400, PLAINLY, {}
        case ShareTaken():
            detail = "This token has too many requests under way. Wait, then try again."
            return 429, detail, {"Retry-After": str(RETRY_AFTER_S)}
        case NoSlot():
            detail = "There are too many requests under way. Wait, then try again."
            return 503, detail, {"Retry-After": str(RETRY_AFTER_S)}
        case TimeoutError():
            late = "The SCIM service behind this address did not answer in time."
            return (
                (408, "The request took too long to arrive.", {})
                if is_client_awaited
                else (504, late, {})
            )
        case _:
            return 502, _UNREACHED if isinstance(error, OSError) else _BROKEN, {}


def _reason(error: Exception) -> str:
    """For the operator: what the upstream's address, its certificate or its answer is wrong with;
    nothing of what was asked or answered.
    """
    match error:
        case TimeoutError():
            return str(error) or "it was late"
        case ssl.SSLError():
            return tls.told(error)
        case ConnectionError() if not error.strerror:
            return "it hung up in the handshake of TLS"
        case OSError():
            return error.strerror or type(error).__qualname__
        case _:
            return str(error)
