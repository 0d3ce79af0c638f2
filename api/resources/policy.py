"""The extension `/policy`: what a deployment, or one team of it, asks of its SCIM tokens."""

from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Controller, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.api_calls import InjectedCall, InjectedKey
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.errors import NotFound
from domain.policy import LIFETIME_MAX_DAYS, LIVE_TOKENS_MAX, Rules


class PolicyDocument(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is asked of a token; a rule that is left out asks for nothing.

    max_lifetime_days: from its creation to its end; a token without an end breaks it.
    expiry_required: it must have an end. max_live_tokens: of one team at a time; suspended, revoked
    and expired ones do not count.
    """

    max_lifetime_days: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=LIFETIME_MAX_DAYS,
                description="From its creation to its end: it needs one.",
            ),
        ]
        | None
    ) = None
    expiry_required: Annotated[bool, msgspec.Meta(description="It must have an end.")] = False
    max_live_tokens: (
        Annotated[
            int,
            msgspec.Meta(ge=0, le=LIVE_TOKENS_MAX, description="Good ones of a team at a time."),
        ]
        | None
    ) = None


_EXAMPLE: Final = PolicyDocument(max_lifetime_days=365, expiry_required=True, max_live_tokens=5)
_ANSWER: Final = ResponseSpec(
    PolicyDocument, description="The rules, as they are set.", examples=[Example(value=_EXAMPLE)]
)


class PolicyController(Controller):
    """`/policy` for every team, `/policy/{team_id}` for one."""

    path = "/policy"
    tags = ("Policies",)
    opt = requires(Permission.POLICIES_MANAGE)

    @get(
        operation_id="getPolicy",
        summary="Read the general policy",
        responses={200: _ANSWER, **documented(400, 401, 403, 503)},
    )
    async def read_general(self, service: InjectedService) -> PolicyDocument:
        """What is asked of every team's tokens; `{}` where nothing is."""
        return _document(await service.ledger.policy(None))

    @put(
        operation_id="setPolicy",
        summary="Replace the general policy",
        status_code=200,
        responses={200: _ANSWER, **documented(400, 401, 403, 413, 415, 422, 503)},
    )
    async def set_general(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        data: JSONBody[PolicyDocument],
    ) -> PolicyDocument:
        """Needs an API token that is for every team.

        Judged from now on, when a token is created, changed or resumed; older tokens go on.
        """
        rules = _rules(data)
        return _document(await service.ledger.set_policy(rules, team_id=None, by=call, key=key))

    @get(
        "/{team_id:uuid}",
        operation_id="getTeamPolicy",
        summary="Read a team's own policy",
        responses={200: _ANSWER, **documented(400, 401, 403, 404, 503)},
    )
    async def read(
        self, request: StrictRequest, service: InjectedService, team_id: FromPath[UUID]
    ) -> PolicyDocument:
        """What is asked of this team's tokens, besides the general policy; `{}` for nothing."""
        teams = request.user.api_token.teams
        if teams is not None and team_id not in teams:
            raise NotFound("no such team")
        return _document(await service.ledger.policy(team_id))

    @put(
        "/{team_id:uuid}",
        operation_id="setTeamPolicy",
        summary="Replace a team's own policy",
        status_code=200,
        responses={200: _ANSWER, **documented(400, 401, 403, 404, 413, 415, 422, 503)},
    )
    async def set_own(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        team_id: FromPath[UUID],
        data: JSONBody[PolicyDocument],
    ) -> PolicyDocument:
        """Beside the general policy, never instead of it: of each rule the stricter one holds."""
        rules = _rules(data)
        return _document(await service.ledger.set_policy(rules, team_id=team_id, by=call, key=key))


def _rules(asked: PolicyDocument) -> Rules:
    return Rules(**msgspec.structs.asdict(asked))


def _document(rules: Rules) -> PolicyDocument:
    return PolicyDocument(**msgspec.structs.asdict(rules))
