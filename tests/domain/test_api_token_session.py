"""Sessions of the console: who may open and close one, and what ends with what."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from domain.api_token.events import Created, Revoked
from domain.api_token.permissions import Permission
from domain.api_token.session import LIFETIME, SIGNED_OUT, close_session, open_session
from domain.api_token.token import ApiToken, evolve
from domain.authority import is_manager, require_another_manager
from domain.errors import LastManager, NotFound, Unauthenticated
from domain.event import Actor, Recorded, States
from domain.secret import secret_id
from tests.domain.scenario import COMMAND_ID, FIRST, SECOND, T0, T1, TEAM_ID

ADA, PARENT, SESSION = UUID(int=4), UUID(int=21), UUID(int=22)
CALLER = Actor(user_id=ADA, api_token_id=PARENT, source="192.0.2.1")
READ, MANAGE = Permission.SCIM_TOKENS_READ, Permission.API_TOKENS_MANAGE


def token(
    *,
    id_: UUID = PARENT,
    permissions: tuple[Permission, ...] = (READ,),
    expires_at: datetime | None = None,
    session_of: UUID | None = None,
) -> ApiToken:
    made = Created(
        user_id=ADA,
        teams=(TEAM_ID,),
        permissions=permissions,
        digest=FIRST,
        created_by=None,
        expires_at=expires_at,
        session_of=session_of,
    )
    return evolve(None, Recorded(id_, 1, T0, COMMAND_ID, made))


def opened(parent: ApiToken, *, at: datetime = T1, presented: bytes = FIRST.value) -> Created:
    (event,) = open_session(parent, digest=SECOND, presented=[presented], by=CALLER, at=at)
    assert isinstance(event, Created)
    return event


def test_a_session_has_the_rights_of_its_token_for_eight_hours() -> None:
    assert opened(token()) == Created(
        user_id=ADA,
        teams=(TEAM_ID,),
        permissions=(READ,),
        digest=SECOND,
        created_by=CALLER,
        expires_at=T1 + LIFETIME,
        session_of=PARENT,
        session_secret=secret_id(FIRST.value),
    )


def test_a_session_ends_with_its_token_at_the_latest() -> None:
    ends_at = T1 + timedelta(hours=1)
    assert opened(token(expires_at=ends_at)).expires_at == ends_at


def test_no_permission_is_needed_to_sign_in() -> None:
    assert opened(token(permissions=(Permission.LEAKS_REPORT,))).permissions == (
        Permission.LEAKS_REPORT,
    )


@pytest.mark.parametrize(
    ("parent", "presented"),
    [
        (token(expires_at=T1), FIRST.value),
        (token(), SECOND.value),
        (token(session_of=UUID(int=9)), FIRST.value),
    ],
    ids=["expired", "with another secret", "a session itself"],
)
def test_what_is_over_or_a_session_opens_none(parent: ApiToken, presented: bytes) -> None:
    with pytest.raises(Unauthenticated):
        opened(parent, presented=presented)


def test_a_session_ends_on_its_own_word_and_once() -> None:
    session = token(id_=SESSION, session_of=PARENT)
    (event,) = close_session(session, by=CALLER)
    assert event == Revoked(revoked_by=CALLER, reason=SIGNED_OUT)
    ended = evolve(session, Recorded(SESSION, 2, T1, COMMAND_ID, event))
    assert close_session(ended, by=CALLER) == []


def test_an_api_token_does_not_end_itself_as_a_session_does() -> None:
    with pytest.raises(NotFound):
        close_session(token(), by=CALLER)


def test_a_session_is_no_manager_that_others_could_count_on() -> None:
    """In the evening it has ended, and nobody could manage API tokens any more."""
    manager = token(permissions=(MANAGE,))
    session = token(id_=SESSION, permissions=(MANAGE,), session_of=PARENT)
    assert is_manager(manager, at=T1)
    assert not is_manager(session, at=T1)
    states = States({manager.id: manager, session.id: session})
    with pytest.raises(LastManager):
        require_another_manager(states, manager, T1)
    require_another_manager(states, session, T1)
