"""Who gives a command, and which permissions and teams they have."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from domain.api_token import ApiToken, Permission
from domain.errors import NotFound, PermissionDenied, Unauthenticated
from domain.event import Actor, States
from domain.scim_token.token import ScimToken


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
    """A call that presents an API token. source, user_agent: as in `Presentation`."""

    api_token_id: UUID
    source: str | None = None
    user_agent: str | None = None


Authority: TypeAlias = UUID | ApiCall | Operator
"""On whose word a command is given: an API token, by its id or as a call came with it,
or the operator.
"""


NOBODY_NAMED: Final = Operator()


def authorise(states: States, by: Authority, at: datetime, *, team_id: UUID | None) -> Actor:
    """Who signs a change of a team's token. team_id: None where the token is missing.

    Raises Unauthenticated, PermissionDenied, NotFound.
    """
    if isinstance(by, Operator):
        return by.actor
    caller = _permitted(states, by, at, Permission.SCIM_TOKENS_WRITE)
    if team_id is not None:
        caller.require_team(team_id)
    return _signed(caller, by)


def authorise_policy(states: States, by: Authority, at: datetime, *, team_id: UUID | None) -> Actor:
    """Who signs a change of a policy. team_id: None for the general one, which is above all teams.

    Raises Unauthenticated, PermissionDenied, NotFound.
    """
    if isinstance(by, Operator):
        return by.actor
    caller = _permitted(states, by, at, Permission.POLICIES_MANAGE)
    if team_id is not None:
        caller.require_team(team_id)
    elif caller.teams is not None:
        raise PermissionDenied(Permission.POLICIES_MANAGE)
    return _signed(caller, by)


def _permitted(
    states: States, by: UUID | ApiCall, at: datetime, permission: Permission
) -> ApiToken:
    caller = states.get(by.api_token_id if isinstance(by, ApiCall) else by)
    if not isinstance(caller, ApiToken):
        raise Unauthenticated("the API token is not valid")
    caller.authorise(permission, at=at)
    return caller


def _signed(caller: ApiToken, by: UUID | ApiCall) -> Actor:
    if isinstance(by, UUID):
        return caller.actor
    return msgspec.structs.replace(caller.actor, source=by.source, user_agent=by.user_agent)


def signing_api_token(by: Authority) -> UUID | None:
    """The API token whose state a command needs, beside that of what it changes."""
    match by:
        case Operator():
            return None
        case ApiCall():
            return by.api_token_id
        case _:
            return by


def authorised(
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
