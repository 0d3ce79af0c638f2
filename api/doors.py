"""The one decision behind every door: header, secret, gate, yes or a refusal.

A yes leaves only after its use is committed. A fault of ours is 503, never a 401: a wrong 401 makes an
identity provider quarantine its customer's job for hours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from litestar.types import HTTPScope

from api.authorization import NotPresentable, read
from domain.errors import TokenRefused, Unavailable
from domain.eventstore.gate import Decision
from domain.ledger import TokenLedger
from domain.scim_token import USER_AGENT_MAX_LENGTH, Presentation

CHALLENGE: Final = 'Bearer realm="scim"'
INVALID_TOKEN: Final = f'{CHALLENGE}, error="invalid_token"'
REFUSED: Final = "The token is not valid."
UNAVAILABLE: Final = "The token cannot be checked right now. Try again."
RETRY_AFTER_S: Final = 1

_CLASSES: Final = re.compile(
    r"(Users|Groups|Me|Bulk|Schemas|ResourceTypes|ServiceProviderConfig|\.search)(/[^/]+)?(/\.search)?/?"
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A door that stays shut. reason: for the trail; detail, headers: for the presenter."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str]


async def authenticate(ledger: TokenLedger, scope: HTTPScope, *, door: str, path: str) -> Decision | Refused:
    """Ask the ledger whether the request's token is good, as seen by one door.

    path: what was asked for, below the SCIM root, without its query.
    """
    try:
        credentials = read(scope, is_bare_accepted=True)
    except NotPresentable as refusal:
        challenge = CHALLENGE if refusal.reason == "missing" else INVALID_TOKEN
        return Refused(401, refusal.reason, refusal.detail, {"WWW-Authenticate": challenge})
    if not credentials.secret.kind.startswith("scim_"):
        return Refused(401, "malformed", REFUSED, {"WWW-Authenticate": INVALID_TOKEN})
    presentation = Presentation(
        door=door,
        form=credentials.form,
        user_agent=_user_agent(scope),
        method=scope["method"],
        path_class=path_class(path),
    )
    try:
        return await ledger.authenticate(credentials.secret, presentation)
    except TokenRefused as refusal:
        return Refused(401, refusal.reason, REFUSED, {"WWW-Authenticate": INVALID_TOKEN})
    except Unavailable:
        return Refused(503, "unavailable", UNAVAILABLE, {"Retry-After": str(RETRY_AFTER_S)})


def path_class(path: str) -> str:
    """A path reduced to its kind, e.g. "Users/{id}": no identifier of a person gets into the ledger."""
    match = _CLASSES.fullmatch(path.strip("/"))
    if match is None:
        return "other"
    return match[1] + ("/{id}" if match[2] else "") + (match[3] or "")


def _user_agent(scope: HTTPScope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"user-agent":
            text = value.decode("latin-1")[:USER_AGENT_MAX_LENGTH]
            return text if text.isprintable() else None
    return None
