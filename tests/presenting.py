"""The doors as those who present a SCIM token see them:
what to ask at each, and what the answer says.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple
from uuid import UUID

from tests.raw_http import Answer, request

UNLIMITED: Final = {"SCIM_LEDGER_RATE_PER_TOKEN": "0", "SCIM_LEDGER_RATE_PER_SOURCE": "0"}
"""Settings for a service that is asked for more than one client should get."""
USE_ID_SEEN: Final = "x-seen-use-id"
"""Of an upstream of the tests: the use that it was told of,
for the answers of /scim/v2 name none.
"""


class Verdict(Enum):
    """NO: revoked or unknown, and most doors do not tell which.

    UNAVAILABLE: not a word about the token.
    """

    YES = "yes"
    NO = "no"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    NETWORK = "network"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"


class Told(NamedTuple):
    """What a door answered. token_id, use_id: of a yes, where the door names them."""

    verdict: Verdict
    token_id: UUID | None = None
    use_id: UUID | None = None


class Door(NamedTuple):
    """One door.

    name: as in the trail. ask: its request for a secret, given an API token in case.
    """

    name: str
    ask: Callable[[str, str], bytes]
    read: Callable[[Answer], Told]


class UnexpectedAnswer(AssertionError):
    """Neither yes nor no nor unavailable."""


def _gateway(path: str) -> Callable[[str, str], bytes]:
    return lambda secret, _: request("GET", path, authorization=secret)


def _verify(secret: str, api_token: str) -> bytes:
    return request("POST", "/verify", authorization=api_token, token=secret)


def _introspect(secret: str, api_token: str) -> bytes:
    return request("POST", "/introspect", authorization=api_token, form=f"token={secret}")


def _read_headers(answer: Answer) -> Told:
    """Of the doors that answer in status and headers."""
    if answer.status == 200:
        use_id, token_id = (
            answer.headers.get("x-scim-use-id"),
            answer.headers.get("x-scim-token-id"),
        )
        use_id = use_id or answer.headers.get(USE_ID_SEEN)
        return Told(
            Verdict.YES, *(None if id_ is None else UUID(id_) for id_ in (token_id, use_id))
        )
    if answer.status == 401 and 'error="invalid_token"' in answer.headers["www-authenticate"]:
        return Told(Verdict.NO)
    return _unavailable(answer)


def _read_document(answer: Answer) -> Told:
    """Of the doors that answer in JSON: a refusal is a 200 too."""
    if answer.status != 200:
        return _unavailable(answer)
    told = answer.json()
    if not told["active"]:
        return Told(Verdict(told.get("reason", "no")))
    return Told(Verdict.YES, UUID(told.get("token_id") or told["sub"]), UUID(told["use_id"]))


def _unavailable(answer: Answer) -> Told:
    if answer.status != 503 or "retry-after" not in answer.headers:
        raise UnexpectedAnswer(answer.raw.decode())
    return Told(Verdict.UNAVAILABLE)


NGINX: Final = Door("nginx", _gateway("/gateway/nginx"), _read_headers)
FORWARD: Final = Door("forward", _gateway("/gateway/forward"), _read_headers)
ENVOY: Final = Door("envoy", _gateway("/gateway/envoy/scim/v2/Users"), _read_headers)
SCIM: Final = Door("scim", _gateway("/scim/v2/ResourceTypes"), _read_headers)
VERIFY: Final = Door("verify", _verify, _read_document)
INTROSPECT: Final = Door("introspect", _introspect, _read_document)
DOORS: Final = (NGINX, FORWARD, ENVOY, SCIM, VERIFY, INTROSPECT)
