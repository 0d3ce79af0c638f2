"""Authenticate a request for every door: read the secret, record the use, accept or refuse.

A yes leaves only after its use is committed. A fault of ours is 503, never a 401: a wrong 401 makes
an identity provider quarantine its customer's job for hours.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec
from litestar.types import HTTPScope, Send

from api.doors import scim_messages
from api.doors.authorization import NotPresentable, read
from api.doors.client_address import ClientAddresses
from api.doors.rate_limit import RateLimits
from api.doors.refusals import RefusalCounter
from api.errors import TooManyRequests
from api.http.asgi_answer import respond
from api.telemetry.instruments import DoorInstruments
from domain.errors import TokenRefused, TokenUnknown, Unavailable
from domain.eventstore.uses import Decision
from domain.kept_text import kept_bytes
from domain.ledger import TokenLedger
from domain.scim_token.events import USER_AGENT_MAX_LENGTH, Presentation
from domain.secret import Secret

CHALLENGE: Final = 'Bearer realm="scim"'
INVALID_TOKEN: Final = f'{CHALLENGE}, error="invalid_token"'
REFUSED: Final = "The token is not valid."
IS_API: Final = "This is an API token; here a SCIM token is presented"
THROTTLED: Final = "There are too many requests. Wait, then try again."
UNAVAILABLE: Final = "The token cannot be checked right now. Try again."
RETRY_AFTER_S: Final = 1

_CLASS: Final = re.compile(
    r"(?:^|/)(Users|Groups|Me|Bulk|Schemas|ResourceTypes|ServiceProviderConfig|\.search)(/[^/]+)?$"
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A door that stays shut. reason: for the trail; detail, headers: for the presenter."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str]


class Asked(msgspec.Struct, frozen=True):
    """What a presenter wants, as one door sees it.

    door: its name in the trail. method, path: of the original request, the path without its query.
    note: a mistake of the presenter worth telling its administrator.
    """

    door: str
    method: str
    path: str
    note: str | None = None


class Doors:
    """Asks the ledger on behalf of every door."""

    def __init__(
        self,
        ledger: TokenLedger,
        *,
        client_addresses: ClientAddresses,
        limits: RateLimits,
        refusals: RefusalCounter,
        instruments: DoorInstruments,
    ) -> None:
        self._ledger = ledger
        self._limits = limits
        self.client_addresses = client_addresses
        self.refusals = refusals
        self.instruments = instruments

    async def authenticate(self, scope: HTTPScope, asked: Asked) -> Decision | Refused:
        """Whether the request's token is good; when it is, its use is committed."""
        # A gateway asks for others: its own address must not be limited, nor told as theirs.
        source = self.client_addresses.address(scope, is_relayed=asked.door != "scim")
        try:
            self.throttle_source(source, asked.door)
            credentials = read(scope, is_bare_accepted=True)
            if not credentials.secret.kind.startswith("scim_"):
                raise NotPresentable("malformed", IS_API)  # noqa: TRY301 - one answer for both
            presentation = Presentation(
                door=asked.door,
                form=credentials.form,
                source=source,
                user_agent=user_agent_of(scope),
                method=asked.method,
                path_class=path_class(asked.path),
                note=asked.note,
            )
            return await self.present(credentials.secret, presentation)
        except NotPresentable as refusal:
            self.refusals.count(refusal.reason, asked.door)
            return _unauthorized(refusal.reason, refusal.detail)
        except TokenRefused as refusal:
            return _unauthorized(refusal.reason, REFUSED)
        except TooManyRequests as refusal:
            return Refused(429, "throttled", THROTTLED, {"Retry-After": str(refusal.retry_after_s)})
        except Unavailable:
            return Refused(503, "unavailable", UNAVAILABLE, {"Retry-After": str(RETRY_AFTER_S)})

    async def present(self, secret: Secret, presentation: Presentation) -> Decision:
        """Let the holder of a SCIM token's secret in: the use is committed before this returns.

        Raises TokenRefused, TooManyRequests, Unavailable.
        """
        door, seen = presentation.door, self.instruments.authentications
        self.throttle_token(secret, door)
        try:
            decision = await self._ledger.authenticate(secret, presentation)
        except TokenUnknown as refusal:
            self.refusals.count(refusal.reason, door)
            raise
        except TokenRefused as refusal:
            seen.add((door, refusal.reason))
            raise
        except Unavailable:
            seen.add((door, "unavailable"))
            raise
        seen.add((door, "good"))
        return decision

    def throttle_source(self, address: str | None, door: str) -> None:
        """Count a request of a source. Raises TooManyRequests."""
        try:
            self._limits.take_source(address)
        except TooManyRequests:
            self._count_throttled("source_rate", door)
            raise

    def throttle_token(self, secret: Secret, door: str) -> None:
        """Count a presentation of a secret. Raises TooManyRequests."""
        try:
            self._limits.take_token(secret)
        except TooManyRequests:
            self._count_throttled("token_rate", door)
            raise

    def _count_throttled(self, limit: str, door: str) -> None:
        self.instruments.limited.add(limit)
        self.refusals.count("throttled", door)


@lru_cache(maxsize=64)
def _unauthorized(reason: str, detail: str) -> Refused:
    challenge = CHALLENGE if reason == "missing" else INVALID_TOKEN
    return Refused(401, reason, detail, {"WWW-Authenticate": challenge})


def identity(decision: Decision) -> Sequence[tuple[bytes, bytes]]:
    """The identity headers, as ASGI has them: always all of them, never empty."""
    assert decision.use is not None
    return (
        (b"x-scim-team-id", decision.team),
        (b"x-scim-token-id", decision.token),
        (b"x-scim-use-id", decision.use),
    )


async def deny(send: Send, scope: HTTPScope, refused: Refused) -> None:
    """Answer a refusal in SCIM's own form (RFC 7644 §3.12), whichever door it was."""
    await respond(
        send,
        scope,
        status=refused.status,
        media_type=scim_messages.MEDIA_TYPE,
        body=scim_messages.error(refused.status, refused.detail),
        headers=refused.headers,
    )


def path_class(path: str) -> str:
    """A path reduced to its kind, e.g.

    "Users/{id}": no identifier of a person gets into the ledger.
    """
    match = _CLASS.search(path.rstrip("/"))
    if match is None:
        return "other"
    return match[1] + ("/{id}" if match[2] else "")


def user_agent_of(scope: HTTPScope) -> str | None:
    """A presenter's name of itself as the ledger keeps it."""
    for name, value in scope["headers"]:
        if name == b"user-agent":
            return kept_bytes(value, max_length=USER_AGENT_MAX_LENGTH)
    return None
