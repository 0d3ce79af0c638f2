"""What the resource `/scim-token` takes and answers, with the examples of its documentation."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import QueryParameter

from api.http.instants import IN_THE_FUTURE
from api.http.values import Check
from domain.errors import InvalidValue
from domain.eventstore.ledger_clock import APART_MAX
from domain.scim_token.token import ScimToken
from domain.scim_token.values import (
    NAME_MAX_LENGTH,
    REASON_MAX_LENGTH,
    check_expiry,
    check_name,
    check_reason,
)
from domain.secret import Secret
from projections.described import rfc3339, rfc3339_or_none
from projections.scim_tokens.known_secrets import Rotation
from projections.scim_tokens.view import TokenDocument, document

EXAMPLE: Final = TokenDocument(
    id=UUID("d19fa4f2-24ea-4be8-9f1d-8b8b0e2dd3b0"),
    team_id=UUID("05daecaf-4365-42e8-8370-8127de5dd717"),
    name="Okta provisioning",
    created_by=UUID("4f9b5c02-6f39-4c2f-8f6e-3f2d0d9f7a11"),
    last_used_at=None,
    created_at="2021-08-10T10:00:00.000Z",
    updated_at="2021-08-10T10:00:00.000Z",
)
"""Examples are structs: Litestar leaves out what is None in a mapping,
and a null is part of the contract.
"""


READABLE: Final = {"pattern": r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"}
"""What a client is told of a text that `check_text` takes; no pattern says its other rules."""
IsName: Final = Check(lambda name, _: check_name(name))
IsReason: Final = Check(lambda reason, _: check_reason(reason))


def _check_past(at: datetime, now: datetime) -> None:
    if at > now + APART_MAX:
        raise InvalidValue("", IN_THE_FUTURE)


IsPast: Final = Check(_check_past)
"""Of an instant that is still to come every token is unused, whoever uses it. One that the ledger
has told is none, whichever machine's clock it was."""


Name: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=NAME_MAX_LENGTH,
        description="A descriptive name.",
        extra_json_schema=READABLE,
    ),
    IsName,
]

Reason: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=REASON_MAX_LENGTH,
        description="Why, for the audit trail.",
        extra_json_schema=READABLE,
    ),
    IsReason,
]

ReasonInQuery: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=REASON_MAX_LENGTH,
        description="Why, for the audit trail.",
        required=False,
        schema_extra=READABLE,
    ),
    IsReason,
]
"""Of a DELETE, which has no body."""


class Reasoned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a command takes that needs nothing but its address. reason: for the audit trail."""

    reason: Reason | None = None


class CreateScimToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to create.

    name: 1 to 255 characters. expires_at: an extension; without it, no end. reason: an extension.
    """

    team_id: Annotated[UUID, msgspec.Meta(description="The team that will own the token.")]
    name: Name
    expires_at: (
        Annotated[
            datetime,
            msgspec.Meta(tz=True, description="An extension: when it ends; without it, never."),
            Check(lambda ends, at: check_expiry(ends, after=at)),
        ]
        | None
    ) = None
    reason: Reason | None = None


class CreatedScimToken(TokenDocument, frozen=True, omit_defaults=True, kw_only=True):
    """The token object plus its secret, shown in this answer only."""

    token: Annotated[
        str, msgspec.Meta(description="Show-once bearer token; cannot be retrieved later.")
    ]


ASK_EXAMPLE: Final = {"team_id": str(EXAMPLE.team_id), "name": EXAMPLE.name}
CREATED_EXAMPLE: Final = CreatedScimToken(
    **msgspec.structs.asdict(EXAMPLE),
    token="scim_live_<49 letters and digits, shown once>",  # noqa: S106 - says what stands there
)


class ScimTokenList(msgspec.Struct, frozen=True):
    """One page, newest first. next_cursor: null on the last page."""

    limit: int
    next_cursor: str | None
    result: Sequence[TokenDocument]


class RevokedScimToken(msgspec.Struct, frozen=True):
    """The token that is revoked now."""

    id: UUID


def with_rotation(told: TokenDocument, token: ScimToken) -> TokenDocument:
    """The token object of a token that was rotated a moment ago: all its uses are of before."""
    if token.outgoing is None or token.rotated_at is None:
        return told
    ends_at = min(filter(None, (token.outgoing.overlap_until, token.expires_at)))
    last_used_at = rfc3339_or_none(token.last_used_at)
    rotation = Rotation(rfc3339(token.rotated_at), rfc3339(ends_at), None, last_used_at)
    return msgspec.structs.replace(told, rotation=rotation)


def shown_once(token: ScimToken, secret: Secret) -> Response[CreatedScimToken]:
    shown = msgspec.structs.asdict(with_rotation(document(token), token))
    return Response(
        CreatedScimToken(**shown, token=secret.reveal()),
        headers={"Location": f"/scim-token/{token.id}"},
    )
