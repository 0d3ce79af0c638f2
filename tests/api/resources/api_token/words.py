"""What the tests of `/api-token` share."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from domain.api_token.permissions import Permission
from tests.service import Caller, RunningService

FIELDS: Final = [
    *("id", "user_id", "permissions", "teams", "created_at", "expires_at", "last_used_at"),
]
API_SECRET: Final = re.compile(r"api_live_[0-9A-Za-z]{49}")
ALL: Final = tuple(str(permission) for permission in Permission)
MANAGE, READ, WRITE = (
    str(Permission.API_TOKENS_MANAGE),
    str(Permission.SCIM_TOKENS_READ),
    str(Permission.SCIM_TOKENS_WRITE),
)


def asked(*permissions: str, teams: Sequence[UUID] | None = None, **fields: Any) -> dict[str, Any]:
    """A body of `POST /api-token`, for a new user."""
    body: dict[str, Any] = {"user_id": str(uuid4()), "permissions": permissions or (READ,)}
    if teams is not None:
        body["teams"] = [str(team) for team in teams]
    return body | fields


def make(
    service: RunningService, caller: Caller, body: Mapping[str, Any] | None = None, **headers: str
) -> dict[str, Any]:
    """Create an API token over HTTP; the answer's body."""
    answer = service.client.post("/api-token", auth=caller, json=body or asked(), headers=headers)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def as_caller(made: Mapping[str, Any]) -> Caller:
    """Whoever holds the secret of an answer."""
    return Caller(UUID(made["id"]), UUID(made["user_id"]), made["token"])


def events(service: RunningService) -> int:
    """How many events of API tokens there are, but for uses and refusals."""
    statement = (
        "SELECT count(*) FROM ledger.events WHERE starts_with(topic, 'api_token.')"
        " AND topic NOT IN ('api_token.used.v1', 'api_token.refused.v1')"
    )
    return int(service.query(statement)[0][0])
