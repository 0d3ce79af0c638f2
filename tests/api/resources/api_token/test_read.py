"""`GET /api-token`, `GET /api-token/{id}` and `GET /whoami`."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.api_token.permissions import Permission
from tests.api.expected import (
    INSTANT,
    assert_invalid,
    assert_not_found,
    assert_unauthenticated,
)
from tests.api.resources.api_token.words import ALL, MANAGE, READ, WRITE, as_caller, asked, make
from tests.service import Caller, RunningService, until


def shown(made: dict[str, Any]) -> dict[str, Any]:
    """A token as it is read: without its secret."""
    return {name: value for name, value in made.items() if name != "token"}


def listed(service: RunningService, caller: Caller, **params: Any) -> Any:
    answer = service.client.get("/api-token", auth=caller, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def manager(service: RunningService, team: UUID) -> Caller:
    return service.api_token(teams=[team])


def test_a_token_is_read_as_it_was_made(service: RunningService, admin: Caller) -> None:
    made = make(service, admin, asked(READ, teams=[uuid4()], expires_at="2999-01-01T00:00:00Z"))
    answer = service.client.get(f"/api-token/{made['id']}", auth=admin)
    assert answer.status_code == 200
    assert answer.json() == shown(made)


def test_its_last_use_is_told(service: RunningService, admin: Caller) -> None:
    made = make(service, admin)
    assert service.client.get("/whoami", auth=as_caller(made)).status_code == 200
    found = service.client.get(f"/api-token/{made['id']}", auth=admin).json()
    assert INSTANT.fullmatch(found["last_used_at"])
    assert found | {"last_used_at": None} == shown(made)


def test_missing_foreign_and_revoked_tokens_all_look_alike(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    caller = manager(service, team)
    foreign = [make(service, admin, asked(teams=teams)) for teams in ([uuid4()], [team, uuid4()])]
    of_all = make(service, admin)
    revoked = make(service, admin, asked(teams=[team]))
    service.client.delete(f"/api-token/{revoked['id']}", auth=admin)
    for id_ in (uuid4(), *(each["id"] for each in (*foreign, of_all, revoked))):
        assert_not_found(service.client.get(f"/api-token/{id_}", auth=caller))
    scim = service.client.post(
        "/scim-token", auth=caller, json={"team_id": str(team), "name": "Okta"}
    ).json()
    assert_not_found(service.client.get(f"/api-token/{scim['id']}", auth=caller))


def test_a_list_is_paged_newest_first(service: RunningService, admin: Caller, team: UUID) -> None:
    caller = manager(service, team)
    made = [make(service, admin, asked(teams=[team])) for _ in range(5)]
    own = service.client.get(f"/api-token/{caller.id}", auth=caller).json()
    expected = [*(shown(each) for each in reversed(made)), own]

    whole = listed(service, caller)
    assert list(whole) == ["limit", "next_cursor", "result"]
    assert whole == {"limit": 100, "next_cursor": None, "result": expected}

    found, cursor = [], ""
    while cursor is not None:
        page = listed(service, caller, limit=2, next_cursor=cursor)
        assert page["limit"] == 2
        assert len(page["result"]) == 2
        found += page["result"]
        cursor = page["next_cursor"]
    assert found == expected


def test_what_is_over_is_not_listed_and_shifts_no_page(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    caller = manager(service, team)
    first, second, third = (make(service, admin, asked(teams=[team])) for _ in range(3))
    page = listed(service, caller, limit=2)
    assert page["result"] == [shown(third), shown(second)]
    service.client.delete(f"/api-token/{third['id']}", auth=caller)
    assert shown(third) not in listed(service, caller)["result"]
    rest = listed(service, caller, limit=2, next_cursor=page["next_cursor"])["result"]
    assert rest[0] == shown(first)

    brief = service.api_token(Permission.AUDIT_READ, teams=[team], lifetime=timedelta(seconds=1))
    until(lambda: service.client.get("/whoami", auth=brief).status_code == 401)
    assert str(brief.id) not in {each["id"] for each in listed(service, caller)["result"]}
    found = service.client.get(f"/api-token/{brief.id}", auth=caller)
    assert found.status_code == 200, "as long as it is not revoked it can be looked at"


def test_a_manager_of_teams_is_told_of_tokens_of_its_teams_only(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    other = uuid4()
    caller = service.api_token(teams=[team, other])
    within = [make(service, admin, asked(teams=teams)) for teams in ([team], [other, team])]
    for teams in (None, [uuid4()], [team, uuid4()]):
        make(service, admin, asked(teams=teams))
    found = {each["id"] for each in listed(service, caller)["result"]}
    assert found == {str(caller.id), *(each["id"] for each in within)}


def test_a_cursor_is_good_for_the_list_that_it_is_of(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    caller = manager(service, team)
    for _ in range(2):
        make(service, caller, asked(teams=[team]))
    cursor = listed(service, caller, limit=1)["next_cursor"]
    for path, by in (("/api-token", admin), ("/scim-token", caller)):
        answer = service.client.get(path, auth=by, params={"next_cursor": cursor})
        about = "The cursor is not one of this list."
        assert_invalid(answer, "next_cursor", "is not one of this list", about=about)


# Who am I


def test_a_caller_is_told_what_it_has(service: RunningService, admin: Caller, team: UUID) -> None:
    made = make(service, admin, asked(WRITE, teams=[team], expires_at="2999-01-01T00:00:00Z"))
    answer = service.client.get("/whoami", auth=as_caller(made))
    assert answer.status_code == 200
    assert answer.json() == {
        "id": made["id"],
        "user_id": made["user_id"],
        "permissions": [WRITE],
        "teams": [str(team)],
        "expires_at": "2999-01-01T00:00:00.000Z",
    }
    assert list(answer.json()) == ["id", "user_id", "permissions", "teams", "expires_at"]


def test_whoever_has_everything_is_told_so(service: RunningService, admin: Caller) -> None:
    made = make(service, admin, asked(*ALL, expires_at=None))
    found = service.client.get("/whoami", auth=as_caller(made)).json()
    assert (found["permissions"], found["teams"], found["expires_at"]) == ([*ALL], None, None)
    assert MANAGE in found["permissions"]


def test_without_a_good_token_nobody_is_anybody(service: RunningService, admin: Caller) -> None:
    made = make(service, admin)
    service.client.delete(f"/api-token/{made['id']}", auth=admin)
    answer = service.client.get("/whoami", auth=as_caller(made))
    assert_unauthenticated(answer, "The API token is not valid.", was_presented=True)
