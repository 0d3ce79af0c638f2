"""Check a SCIM token (`/verify`, `/introspect`), or revoke the one that is held (`/revoke`).

`/verify` is ours (JSON), `/introspect` is RFC 7662; both are asked with an API token, and a yes of
either is a use, committed before the answer leaves. `/revoke` is RFC 7009: holding the token is the
permission.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import JSONBody

from api.admission import FOR_ANYONE, requires
from api.doors.decide import path_class, user_agent_of
from api.errors import FieldError, InvalidForm
from api.http.form_body import PresentedTokenFormOperation, TokenFormOperation, read_form
from api.http.json_body import READS_BODY, StrictRequest
from api.http.openapi import BEARER, CLIENT
from api.http.parameters import REFUSAL
from api.http.problems import documented
from api.http.values import Check
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.api_token.token import ApiToken
from domain.errors import InvalidValue, TokenRefused, TokenUnknown
from domain.eventstore.uses import Decision
from domain.kept_text import kept
from domain.networks.plain import plain_address
from domain.scim_token.events import USER_AGENT_MAX_LENGTH, Presentation
from domain.secret import MalformedSecretError, Secret, parse
from projections.described import Instant, one_of, rfc3339

_TEXT_MAX_LENGTH: Final = 8192
_METHOD: Final = re.compile(r"[A-Za-z]{1,20}")
_IDS: Final = {
    "team_id": "05daecaf-4365-42e8-8370-8127de5dd717",
    "token_id": "d19fa4f2-24ea-4be8-9f1d-8b8b0e2dd3b0",
    "use_id": "0b0c2f0e-9d0c-4a53-8d1f-0f6f7d1c3c11",
}


class VerifyToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that was presented to the asking service, and how;
    what is told goes to the audit trail.

    method, path: of the request that presented it. source: address of the presenter; without it, a
    token that is good from certain networks alone is refused (reason "network").
    """

    token: Annotated[
        str, msgspec.Meta(max_length=_TEXT_MAX_LENGTH, description="As it was presented.")
    ]
    method: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX_LENGTH)] | None = None
    path: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX_LENGTH)] | None = None
    source: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=_TEXT_MAX_LENGTH,
                description="The presenter's IP address. Without it, a token that is good from "
                "certain networks alone is refused.",
            ),
            Check(lambda source, _: _check_address(source)),
        ]
        | None
    ) = None
    user_agent: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX_LENGTH)] | None = None


class Verified(msgspec.Struct, frozen=True, omit_defaults=True):
    """The decision.

    active: let the presenter in; then all fields but `reason` are there, else that one only.

    reason: "malformed", "unknown", "revoked", "suspended", "expired" or "network"; for logs, not
    for the presenter.
    """

    active: bool
    team_id: UUID | None = None
    token_id: UUID | None = None
    use_id: UUID | None = None
    used_at: Instant | None = None
    reason: (
        Annotated[str, one_of("malformed", "unknown", "revoked", "suspended", "expired", "network")]
        | None
    ) = None


class Introspection(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 7662 §2.2; exactly {"active": false} for every token that is not good.

    sub: id of the token. client_id, team_id: the team that it speaks for. iat, exp: seconds since
    1970. use_id: of the use that this answer is.
    """

    active: bool
    token_type: Literal["Bearer"] | None = None
    scope: Literal["scim"] | None = None
    sub: UUID | None = None
    client_id: UUID | None = None
    team_id: UUID | None = None
    use_id: UUID | None = None
    iat: int | None = None
    exp: int | None = None


class Burned(msgspec.Struct, frozen=True):
    """An empty object: RFC 7009 §2.2 has nothing to tell,
    and a client of JSON something to read.
    """


class OAuthError(msgspec.Struct, frozen=True):
    """RFC 6749 §5.2."""

    error: Annotated[str, one_of("invalid_request", "unsupported_token_type")]
    error_description: str


def _refuse_form(_: Request[Any, Any, Any], error: InvalidForm) -> Response[OAuthError]:
    return Response(OAuthError(error.error, error.detail), status_code=400)


def _invalid_request(detail: str, _: Sequence[FieldError]) -> InvalidForm:
    return InvalidForm("invalid_request", detail)


def _responses(answer: ResponseSpec, *problems: int) -> dict[int, ResponseSpec]:
    return {200: answer, **documented(*problems)}


_FORM_ERROR: Final = ResponseSpec(
    OAuthError,
    generate_examples=False,
    description="RFC 6749 §5.2",
    examples=[
        Example(value={"error": "invalid_request", "error_description": "The token is missing."})
    ],
)


@post(
    "/verify",
    operation_id="verifyScimToken",
    opt=requires(Permission.SCIM_TOKENS_READ),
    summary="Authenticate with a SCIM token that was presented elsewhere",
    tags=["Authentication"],
    status_code=200,
    responses=_responses(
        ResponseSpec(
            Verified,
            description="The decision; when active, its use is recorded.",
            examples=[
                Example(value={"active": True, **_IDS, "used_at": "2021-08-10T10:00:00.000Z"}),
                Example(value={"active": False, "reason": "revoked"}),
            ],
        ),
        *(400, 401, 403, 413, 415, 429, 503),
    ),
)
async def verify(
    request: StrictRequest, service: InjectedService, data: JSONBody[VerifyToken]
) -> Verified:
    """A yes is a use of the token.

    Without `source`, a token that is good from certain networks alone is refused, for the reason
    `network`. Another team's token is unknown to a caller who is confined to teams.
    """
    presentation = Presentation(
        door="verify",
        source=None if data.source is None else str(plain_address(data.source)),
        user_agent=kept(data.user_agent or "", max_length=USER_AGENT_MAX_LENGTH),
        method=None if data.method is None else _method(data.method),
        path_class=None if data.path is None else path_class(data.path.partition("?")[0]),
    )
    try:
        decision = await _decide(service, request.user.api_token, data.token, presentation)
    except TokenRefused as refusal:
        return Verified(active=False, reason=refusal.reason)
    return Verified(
        active=True,
        team_id=decision.team_id,
        token_id=decision.token_id,
        use_id=decision.use_id,
        used_at=rfc3339(decision.at),
    )


@post(
    "/introspect",
    operation_id="introspectScimToken",
    summary="Introspect a SCIM token (RFC 7662)",
    tags=["Authentication"],
    status_code=200,
    operation_class=PresentedTokenFormOperation,
    exception_handlers={InvalidForm: _refuse_form},
    opt=requires(Permission.SCIM_TOKENS_READ) | {REFUSAL: _invalid_request} | READS_BODY,
    security=[{BEARER: []}, {CLIENT: []}],
    responses={
        **_responses(
            ResponseSpec(
                Introspection,
                description="The decision; when active, its use is recorded.",
                examples=[
                    Example(
                        value={
                            "active": True,
                            "token_type": "Bearer",
                            "scope": "scim",
                            "sub": _IDS["token_id"],
                            "client_id": _IDS["team_id"],
                            "team_id": _IDS["team_id"],
                            "use_id": _IDS["use_id"],
                            "iat": 1628589600,
                        }
                    ),
                    Example(value={"active": False}),
                ],
            ),
            *(401, 403, 413, 415, 429, 503),
        ),
        400: _FORM_ERROR,
    },
)
async def introspect(request: StrictRequest, service: InjectedService) -> Introspection:
    """A yes is a use of the token: "active" means that it was let in just now.

    The API token may come as a client's password, by Basic. Without `source`, a token that is good
    from certain networks alone is not active.
    """
    form = await read_form(request)
    text, presentation = _token_of(form), Presentation("introspect", source=_source_of(form))
    try:
        decision = await _decide(service, request.user.api_token, text, presentation)
    except TokenRefused:
        return Introspection(active=False)
    token = await service.ledger.scim_token(decision.token_id)
    candidates = service.ledger.pepper.candidates(parse(text))
    return Introspection(
        active=True,
        token_type="Bearer",  # noqa: S106 - RFC 6749 §7.1's name of the type
        scope="scim",
        sub=token.id,
        client_id=token.team_id,
        team_id=token.team_id,
        use_id=decision.use_id,
        iat=int(token.created_at.timestamp()),
        exp=_seconds(token.good_until(candidates, at=decision.at)),
    )


@post(
    "/revoke",
    operation_id="burnScimToken",
    summary="Revoke the SCIM token that one holds (RFC 7009)",
    tags=["Authentication"],
    status_code=200,
    security=[{}],
    operation_class=TokenFormOperation,
    exception_handlers={InvalidForm: _refuse_form},
    opt=FOR_ANYONE | {REFUSAL: _invalid_request} | READS_BODY,
    responses={
        **_responses(
            ResponseSpec(
                Burned,
                description="It is not valid any more, or never was.",
                examples=[Example(value={})],
            ),
            *(413, 415, 429, 503),
        ),
        400: _FORM_ERROR,
    },
)
async def revoke(request: StrictRequest, service: InjectedService) -> Burned:
    """Whoever holds a token may end it, at once and for good; no API token is needed."""
    source = service.doors.client_addresses.address(request.scope)
    service.doors.throttle_source(source, "revoke")
    text = _token_of(await read_form(request))
    try:
        secret = _parsed(text)
        if not secret.kind.startswith("scim_"):
            raise InvalidForm("unsupported_token_type", "Only SCIM tokens can be revoked here.")
        service.doors.throttle_token(secret, "revoke")
        presentation = Presentation(
            "revoke", source=source, user_agent=user_agent_of(request.scope)
        )
        await service.ledger.burn_scim_token(secret, presentation)
    except TokenRefused as refusal:  # RFC 7009 §2.2: what is not valid needs no revocation
        service.doors.refusals.count(refusal.reason, "revoke")
    return Burned()


OPERATIONS: Final[Sequence[Any]] = (verify, introspect, revoke)


class _Malformed(TokenRefused):
    """The text is no secret of a SCIM token."""

    reason = "malformed"


async def _decide(
    service: Service, caller: ApiToken, text: str, presentation: Presentation
) -> Decision:
    """Let a presented token in, on behalf of a caller.

    Raises TokenRefused, TooManyRequests, Unavailable.
    """
    doors, door = service.doors, presentation.door
    try:
        secret = _parsed(text)
        if not secret.kind.startswith("scim_"):
            raise _Malformed
        if caller.teams is not None and await service.ledger.team_of(secret) not in caller.teams:
            # before it is used: the caller must not leave a trace on a foreign token
            raise TokenUnknown
    except TokenRefused as refusal:
        doors.refusals.count(refusal.reason, door)
        raise
    return await doors.present(secret, presentation)


def _token_of(form: Mapping[str, str]) -> str:
    token = form.get("token")
    if token is None:
        raise InvalidForm("invalid_request", "The token is missing.")
    return token


def _source_of(form: Mapping[str, str]) -> str | None:
    """Whence a token was presented, as the ledger keeps it."""
    source = form.get("source")
    if source is None:
        return None
    address = plain_address(source)
    if address is None:
        raise InvalidForm("invalid_request", "The source must be an IP address.")
    return str(address)


def _parsed(text: str) -> Secret:
    try:
        return parse(text)
    except MalformedSecretError:
        raise _Malformed from None


def _method(text: str) -> str:
    return text.upper() if _METHOD.fullmatch(text) else "unknown"


def _check_address(text: str) -> None:
    if plain_address(text) is None:
        raise InvalidValue("/source", "must be an IP address")


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
