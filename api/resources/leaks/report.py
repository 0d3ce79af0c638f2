"""`POST /leak-report`: whoever found secrets says so, and their tokens end or are marked."""

from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Body

from api.admission import requires
from api.http.json_body import ITEMS, StrictRequest
from api.http.problems import documented
from api.resources.api_calls import InjectedCall, InjectedKey
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.authority import Authority
from domain.commands import CommandKey
from domain.leaks.report import LeakAnswer, LeakReport
from domain.scim_token.leak import leak
from domain.secret import MalformedSecretError, Secret, parse
from projections.described import one_of

_TEXT_MAX_LENGTH: Final = 8192
STATES: Final = ("live", "suspended", "revoked", "expired", "unknown", "malformed")
ACTIONS: Final = ("revoked", "marked", "none")
_EXAMPLE_ID: Final = UUID("d19fa4f2-24ea-4be8-9f1d-8b8b0e2dd3b0")


class LeakedSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that was found where it does not belong.

    url: where; user, query and fragment are not kept. source: what was searched, or who searched.
    """

    token: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX_LENGTH, description="As it was found.")]
    url: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX_LENGTH)] | None = None
    source: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX_LENGTH)] | None = None


class LeakOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one of them; the secret is not repeated.

    state: how it stood before. action: what this report did. token_id: of a token that the caller
    may know of.
    """

    state: Annotated[str, one_of(*STATES)]
    action: Annotated[str, one_of(*ACTIONS)]
    token_id: UUID | None = None


_ASK: Final = [
    {
        "token": "scim_live_<49 letters and digits>",
        "url": "https://github.com/octocat/Hello-World/blob/main/config.yml",
        "source": "github",
    },
    {"token": "scim_live_<49 letters and digits>"},
]
_MALFORMED: Final = LeakOutcome("malformed", "none")
_UNKNOWN: Final = LeakOutcome("unknown", "none")
_ANSWER: Final = [LeakOutcome("live", "revoked", _EXAMPLE_ID), _UNKNOWN]


@post(
    "/leak-report",
    operation_id="reportLeaks",
    opt=requires(Permission.LEAKS_REPORT),
    summary="Report leaked secrets",
    tags=["Leaks"],
    status_code=200,
    responses={
        200: ResponseSpec(
            list[LeakOutcome],
            generate_examples=False,
            description="What became of each, in the order of the report.",
            examples=[Example(value=_ANSWER)],
        ),
        **documented(400, 401, 403, 413, 415, 422, 503),
    },
)
async def report_leaks(
    request: StrictRequest,
    service: InjectedService,
    call: InjectedCall,
    key: InjectedKey,
    data: Annotated[
        list[LeakedSecret],
        Body(min_items=ITEMS[0], max_items=ITEMS[-1], examples=[Example(value=_ASK)]),
    ],
) -> list[LeakOutcome]:
    """A token whose secret is still good ends at once, or is marked, as `ON_LEAK` says.

    Another team's token is unknown to a caller who is confined to teams, and nothing happens to it.
    Repeated with its Idempotency-Key, a report does nothing more, and tells how each stands then.
    """
    teams = request.user.api_token.teams
    return await outcomes_of(service, data, by=call, teams=teams, key=key)


async def outcomes_of(
    service: Service,
    found: Sequence[LeakedSecret],
    *,
    by: Authority,
    teams: Sequence[UUID] | None,
    key: CommandKey | None = None,
) -> list[LeakOutcome]:
    """What becomes of what was found; nothing is looked up for what is no secret of ours."""
    parsed = [_parsed(each.token) for each in found]
    reports = [
        LeakReport(secret, leak(each.url, each.source))
        for secret, each in zip(parsed, found, strict=True)
        if secret is not None
    ]
    answers = iter(
        await service.ledger.report_leaks(reports, by=by, teams=teams, key=key) if reports else ()
    )
    return [_MALFORMED if secret is None else _outcome(next(answers)) for secret in parsed]


def _parsed(text: str) -> Secret | None:
    try:
        return parse(text)
    except MalformedSecretError:
        return None


def _outcome(answer: LeakAnswer | None) -> LeakOutcome:
    if answer is None:
        return _UNKNOWN
    return LeakOutcome(answer.state, answer.action, answer.token_id)
