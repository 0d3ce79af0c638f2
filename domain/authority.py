"""Who gives a command, and which permissions and teams they have."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from domain.api_token.events import ApiTokenEvent, Created
from domain.api_token.permissions import Permission
from domain.api_token.session import as_it_stands_in
from domain.api_token.token import ApiToken
from domain.commands import NewApiToken
from domain.errors import (
    Confined,
    InvalidValue,
    LastManager,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from domain.event import Actor, States
from domain.scim_token.token import ScimToken
from domain.secret import Digest


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever runs the service, at the command line: may do everything.

    user_id: on whose behalf, if named. name: user and host of the operating system, for the trail.
    """

    user_id: UUID | None = None
    name: str | None = None

    @property
    def actor(self) -> Actor:
        """How the operator's commands are signed."""
        return Actor(user_id=self.user_id, api_token_id=None, operator=self.name)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A call that presents an API token. source, user_agent: as in `Presentation`.

    digests: of the secret that came with it, as of `ApiToken.is_good`.
    session_of: of a session, the API token that signed in.
    """

    api_token_id: UUID
    source: str | None = None
    user_agent: str | None = None
    digests: Sequence[bytes] | None = None
    session_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A programme that reports leaks, known by its signature; may do nothing else.

    source, user_agent: as in `Presentation`.
    """

    source: str | None = None
    user_agent: str | None = None

    @property
    def actor(self) -> Actor:
        """How what follows from its reports is signed."""
        return Actor(
            user_id=None, api_token_id=None, source=self.source, user_agent=self.user_agent
        )


Authority: TypeAlias = UUID | ApiCall | Operator | SignedReport
"""On whose word a command is given: an API token, by its id or as a call came with it,
the operator, or a programme that reports leaks.
"""


NOBODY_NAMED: Final = Operator()


def authorise(
    states: States,
    by: Authority,
    at: datetime,
    *,
    team_id: UUID | None,
    permission: Permission = Permission.SCIM_TOKENS_WRITE,
) -> Actor:
    """Who signs a change of a team's token. team_id: None where the token is missing.

    Raises Unauthenticated, PermissionDenied, NotFound.
    """
    caller = calling_api_token(states, by, at, permission=permission)
    if caller is not None and team_id is not None:
        caller.require_team(team_id)
    return actor_of(by, caller)


def authorise_policy(states: States, by: Authority, at: datetime, *, team_id: UUID | None) -> Actor:
    """Who signs a change of a policy. team_id: None for the general one, which is above all teams.

    Raises Unauthenticated, PermissionDenied, Confined, NotFound.
    """
    caller = calling_api_token(states, by, at, permission=Permission.POLICIES_MANAGE)
    if caller is not None and team_id is not None:
        caller.require_team(team_id)
    elif caller is not None and caller.teams is not None:
        raise Confined("the API token is for some teams, and this policy for every one")
    return actor_of(by, caller)


def calling_api_token(
    states: States, by: Authority, at: datetime, *, permission: Permission
) -> ApiToken | None:
    """The API token that gives a command; None for the operator, who may do everything, and for a
    programme that reports leaks.

    Raises Unauthenticated, PermissionDenied.
    """
    if isinstance(by, SignedReport) and permission is not Permission.LEAKS_REPORT:
        raise PermissionDenied(permission)
    calling = signing_api_token(by)
    if calling is None:
        return None
    found = states.get(calling)
    if not isinstance(found, ApiToken):
        raise Unauthenticated("the API token is not valid")
    caller = as_it_stands_in(states, found)
    digests = by.digests if isinstance(by, ApiCall) else None
    caller.authorise(permission, at=at, digests=digests)
    return caller


def actor_of(by: Authority, caller: ApiToken | None) -> Actor:
    """How a command is signed. caller: as `calling_api_token` found it."""
    if isinstance(by, Operator | SignedReport):
        return by.actor
    assert caller is not None
    if not isinstance(by, ApiCall):
        return caller.actor
    return msgspec.structs.replace(caller.actor, source=by.source, user_agent=by.user_agent)


def api_token_ids(by: Authority) -> Sequence[UUID]:
    """The API tokens whose states a command needs, beside that of what it changes: the one that
    signs, and of a session the one that signed in.
    """
    first = by.session_of if isinstance(by, ApiCall) else None
    return [each for each in (signing_api_token(by), first) if each is not None]


def signing_api_token(by: Authority) -> UUID | None:
    """The API token that signs a command."""
    match by:
        case Operator() | SignedReport():
            return None
        case ApiCall():
            return by.api_token_id
        case _:
            return by


def authorise_scim_token(
    states: States, by: Authority, at: datetime, *, token_id: UUID
) -> tuple[ScimToken, Actor]:
    """The token to change and who signs it.

    Permission first: foreign and missing must look the same.
    """
    token = states.get(token_id)
    actor = authorise(
        states, by, at, team_id=token.team_id if isinstance(token, ScimToken) else None
    )
    return scim_token_of(states, token_id), actor


def scim_token_of(states: States, token_id: UUID) -> ScimToken:
    """The SCIM token among the states. Raises NotFound."""
    token = states.get(token_id)
    if not isinstance(token, ScimToken):
        raise NotFound("no such token")
    return token


def api_token_of(states: States, token_id: UUID) -> ApiToken:
    """The API token among the states. Raises NotFound."""
    token = states.get(token_id)
    if not isinstance(token, ApiToken):
        raise NotFound("no such API token")
    return token


def grant_api_token(
    states: States, by: Authority, at: datetime, *, ask: NewApiToken, digest: Digest
) -> list[ApiTokenEvent]:
    """A new API token, which may do no more than whoever makes it.

    Raises InvalidValue, Unauthenticated, PermissionDenied, NotFound (foreign team).
    """
    caller = calling_api_token(states, by, at, permission=Permission.API_TOKENS_MANAGE)
    (created,) = ApiToken.create(
        user_id=ask.user_id,
        teams=ask.teams,
        permissions=ask.permissions,
        digest=digest,
        created_by=actor_of(by, caller),
        expires_at=ask.expires_at,
        lifetime=ask.lifetime,
        at=at,
        reason=ask.reason,
    )
    assert isinstance(created, Created)
    if caller is not None:
        require_grantable(caller, created.permissions, created.teams)
    return [created]


def authorise_api_token(
    states: States, by: Authority, at: datetime, *, token_id: UUID
) -> tuple[ApiToken, Actor]:
    """The API token to change and who signs it; one with other teams than the caller's is missing.

    Raises Unauthenticated, PermissionDenied, NotFound.
    """
    caller = calling_api_token(states, by, at, permission=Permission.API_TOKENS_MANAGE)
    token = api_token_of(states, token_id)
    if caller is not None and not covers(caller, token.teams):
        raise NotFound("no such API token")
    return token, actor_of(by, caller)


def authorise_api_token_rotation(
    states: States, by: Authority, at: datetime, *, token_id: UUID
) -> tuple[ApiToken, Actor]:
    """The API token to give a new secret to: whoever gets that has what the token has.

    Raises what `authorise_api_token` and `require_grantable` raise.
    """
    token, actor = authorise_api_token(states, by, at, token_id=token_id)
    caller = calling_api_token(states, by, at, permission=Permission.API_TOKENS_MANAGE)
    if caller is not None:
        require_grantable(caller, token.permissions, token.teams)
    return token, actor


def require_grantable(
    caller: ApiToken, permissions: Sequence[Permission], teams: Sequence[UUID] | None
) -> None:
    """Raise unless `caller` may hand these permissions and teams on:
    nobody grants more than they have.

    Raises PermissionDenied with the first permission that it lacks, InvalidValue where all teams
    are meant, and NotFound for a team of others.
    """
    for permission in permissions:
        if permission not in caller.permissions:
            raise PermissionDenied(permission)
    if teams is None and caller.teams is not None:
        raise InvalidValue("/teams", "must be given: your own API token is for some teams only")
    if not covers(caller, teams):
        raise NotFound("no such team")


def covers(caller: ApiToken, teams: Sequence[UUID] | None) -> bool:
    """Whether `teams`, None for all, are among those that `caller` may touch."""
    return caller.teams is None or (teams is not None and set(teams) <= set(caller.teams))


def sees(manager: ApiToken, token: ApiToken) -> bool:
    """Whether a manager is told of a token: one of its teams that is not revoked."""
    return covers(manager, token.teams) and token.revoked_at is None


def is_manager(token: ApiToken, *, at: datetime) -> bool:
    """Whether an API token may manage API tokens at `at`, and is there to stay: no session."""
    may_manage = Permission.API_TOKENS_MANAGE in token.permissions and token.is_good(at=at)
    return may_manage and token.session_of is None


def require_another_manager(states: States, token: ApiToken, at: datetime) -> None:
    """Raise LastManager if without `token` nobody could manage API tokens where it can.

    states: with every manager there is. A manager of some teams does not stand in for one of all.
    """
    others = (
        other
        for other in states.values()
        if isinstance(other, ApiToken) and other.id != token.id and is_manager(other, at=at)
    )
    if is_manager(token, at=at) and not any(covers(other, token.teams) for other in others):
        raise LastManager("the last API token that may manage API tokens")
