"""What is asked and answered about API tokens."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from api.http.values import Check
from api.resources.scim_token.bodies import Reason
from domain.api_token.permissions import Permission
from domain.api_token.rotation import DEFAULT_OVERLAP
from domain.api_token.token import ApiToken
from domain.scim_token.rotation import OVERLAP_MAX
from domain.scim_token.values import check_expiry
from projections.described import Instant, rfc3339, rfc3339_or_none


class CreateApiToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API token to create. It may do no more than the one that creates it.

    teams: left out, every team. expires_at: left out, in 90 days; null, no end. reason: for the
    audit trail.
    """

    user_id: Annotated[UUID, msgspec.Meta(description="The user who will act through it.")]
    permissions: Annotated[
        list[Permission],
        msgspec.Meta(min_length=1, description="What it allows; those of your own at most."),
    ]
    teams: (
        Annotated[
            list[UUID],
            msgspec.Meta(min_length=1, description="The teams it may touch; your own at most."),
        ]
        | None
    ) = None
    expires_at: (
        Annotated[
            datetime,
            msgspec.Meta(tz=True, description="When it ends; left out, in 90 days; null, never."),
            Check(lambda ends, at: check_expiry(ends, after=at)),
        ]
        | UnsetType
        | None
    ) = UNSET
    reason: Reason | None = None


class RotateApiToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """overlap_seconds: how long the secret before goes on; a day unless said otherwise.

    reason: for the audit trail.
    """

    overlap_seconds: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=OVERLAP_MAX // timedelta(seconds=1),
            description="How long the secret before goes on; a day unless given.",
        ),
    ] = DEFAULT_OVERLAP // timedelta(seconds=1)
    reason: Reason | None = None


class ApiTokenDocument(msgspec.Struct, frozen=True):
    """An API token, without its secret. teams: null for every team. expires_at: null for no end.

    last_used_at: to the minute; null before the first use. session_of: there for a session of the
    console alone: the API token that signed in.
    """

    id: UUID
    user_id: UUID
    permissions: Sequence[Permission]
    teams: Sequence[UUID] | None
    created_at: Instant
    expires_at: Instant | None
    last_used_at: Instant | None
    session_of: UUID | UnsetType = UNSET


class CreatedApiToken(ApiTokenDocument, frozen=True, kw_only=True):
    """The API token plus its secret, shown in this answer only."""

    token: Annotated[
        str, msgspec.Meta(description="Show-once bearer token; cannot be retrieved later.")
    ]


class ApiTokenList(msgspec.Struct, frozen=True):
    """One page, newest first. next_cursor: null on the last page."""

    limit: int
    next_cursor: str | None
    result: Sequence[ApiTokenDocument]


class RevokedApiToken(msgspec.Struct, frozen=True):
    """The API token that is revoked now."""

    id: UUID


class WhoAmI(msgspec.Struct, frozen=True):
    """The API token that a call was made with."""

    id: UUID
    user_id: UUID
    permissions: Sequence[Permission]
    teams: Sequence[UUID] | None
    expires_at: Instant | None


EXAMPLE: Final = ApiTokenDocument(
    id=UUID("6d0c2f4b-93a5-4d0e-8a57-6b1f8f0f5c21"),
    user_id=UUID("4f9b5c02-6f39-4c2f-8f6e-3f2d0d9f7a11"),
    permissions=(Permission.SCIM_TOKENS_READ, Permission.SCIM_TOKENS_WRITE),
    teams=(UUID("05daecaf-4365-42e8-8370-8127de5dd717"),),
    created_at="2021-08-10T10:00:00.000Z",
    expires_at="2021-11-08T10:00:00.000Z",
    last_used_at=None,
)
CREATED_EXAMPLE: Final = CreatedApiToken(
    **msgspec.structs.asdict(EXAMPLE),
    token="api_live_<49 letters and digits, shown once>",  # noqa: S106 - says what stands there
)
ASK_EXAMPLE: Final = {
    "user_id": str(EXAMPLE.user_id),
    "permissions": [str(permission) for permission in EXAMPLE.permissions],
    "teams": ["05daecaf-4365-42e8-8370-8127de5dd717"],
}
WHOAMI_EXAMPLE: Final = WhoAmI(
    EXAMPLE.id, EXAMPLE.user_id, EXAMPLE.permissions, EXAMPLE.teams, EXAMPLE.expires_at
)


def document(token: ApiToken) -> ApiTokenDocument:
    """The documented token from its state."""
    return ApiTokenDocument(
        id=token.id,
        user_id=token.user_id,
        permissions=token.permissions,
        teams=token.teams,
        created_at=rfc3339(token.created_at),
        expires_at=rfc3339_or_none(token.expires_at),
        last_used_at=rfc3339_or_none(token.last_used_at),
        session_of=UNSET if token.session_of is None else token.session_of,
    )


def who(token: ApiToken) -> WhoAmI:
    """What a caller is told of its own token."""
    return WhoAmI(
        token.id, token.user_id, token.permissions, token.teams, rfc3339_or_none(token.expires_at)
    )
