"""The one decision behind every door: header, secret, gate, yes or a refusal.

A yes leaves only after its use is committed. A fault of ours is 503, never a 401: a wrong 401 makes an
identity provider quarantine its customer's job for hours.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from litestar.types import HTTPScope, Send

from api.asgi import respond
from api.authorization import NotPresentable, read
from api.scim import messages
from domain.errors import TokenRefused, Unavailable
from domain.eventstore.uses import Decision
from domain.ledger import TokenLedger
from domain.scim_token import USER_AGENT_MAX_LENGTH, Presentation

CHALLENGE: Final = 'Bearer realm="scim"'
INVALID_TOKEN: Final = f'{CHALLENGE}, error="invalid_token"'
REFUSED: Final = "The token is not valid."
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


@dataclass(frozen=True, slots=True)
class Asked:
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

    def __init__(self, ledger: TokenLedger) -> None:
        self._ledger = ledger

    async def authenticate(self, scope: HTTPScope, asked: Asked) -> Decision | Refused:
        """Whether the request's token is good; when it is, its use is committed."""
        try:
            credentials = read(scope, is_bare_accepted=True)
        except NotPresentable as refusal:
            challenge = CHALLENGE if refusal.reason == "missing" else INVALID_TOKEN
            return Refused(401, refusal.reason, refusal.detail, {"WWW-Authenticate": challenge})
        if not credentials.secret.kind.startswith("scim_"):
            return Refused(401, "malformed", REFUSED, {"WWW-Authenticate": INVALID_TOKEN})
        presentation = Presentation(
            door=asked.door,
            form=credentials.form,
            user_agent=_user_agent(scope),
            method=asked.method,
            path_class=path_class(asked.path),
            note=asked.note,
        )
        try:
            return await self._ledger.authenticate(credentials.secret, presentation)
        except TokenRefused as refusal:
            return Refused(401, refusal.reason, REFUSED, {"WWW-Authenticate": INVALID_TOKEN})
        except Unavailable:
            return Refused(503, "unavailable", UNAVAILABLE, {"Retry-After": str(RETRY_AFTER_S)})


def identity(decision: Decision) -> Sequence[tuple[bytes, bytes]]:
    """The identity headers, as ASGI has them: always all of them, never empty."""
    assert decision.use_id is not None
    return (
        (b"x-scim-team-id", str(decision.team_id).encode()),
        (b"x-scim-token-id", str(decision.token_id).encode()),
        (b"x-scim-use-id", str(decision.use_id).encode()),
    )


async def deny(send: Send, scope: HTTPScope, refused: Refused) -> None:
    """Answer a refusal in SCIM's own form (RFC 7644 §3.12), whichever door it was."""
    await respond(
        send,
        scope,
        status=refused.status,
        media_type=messages.MEDIA_TYPE,
        body=messages.error(refused.status, refused.detail),
        headers=refused.headers,
    )


def path_class(path: str) -> str:
    """A path reduced to its kind, e.g. "Users/{id}": no identifier of a person gets into the ledger."""
    match = _CLASS.search(path.rstrip("/"))
    if match is None:
        return "other"
    return match[1] + ("/{id}" if match[2] else "")


def _user_agent(scope: HTTPScope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"user-agent":
            text = value.decode("latin-1")[:USER_AGENT_MAX_LENGTH]
            return text if text.isprintable() else None
    return None
