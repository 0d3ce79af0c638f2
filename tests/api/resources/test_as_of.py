"""`?as_of=`: what was answered then is answered again, whatever happened since."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.expected import assert_invalid, assert_not_found, create, use
from tests.api.trail import later, text
from tests.conftest import now
from tests.service import Caller, RunningService

BEFORE_ALL = "2020-01-01T00:00:00Z"


def read(service: RunningService, caller: Caller, token_id: str, at: datetime | None = None) -> Any:
    params = {} if at is None else {"as_of": text(at)}
    answer = service.client.get(f"/scim-token/{token_id}", auth=caller, params=params)
    return answer.json() if answer.status_code == 200 else answer.status_code


def ids(service: RunningService, caller: Caller, **params: Any) -> list[str]:
    answer = service.client.get("/scim-token", auth=caller, params=params)
    assert answer.status_code == 200, answer.text
    return [token["id"] for token in answer.json()["result"]]


@pytest.fixture
def caller(service: RunningService, team: UUID) -> Caller:
    return service.api_token(teams=[team])


def test_each_past_answer_is_given_again(
    service: RunningService, caller: Caller, team: UUID
) -> None:
    before = later()
    token = create(service, caller, team=team)
    path = f"/scim-token/{token['id']}"
    then = [(before, 404)]

    def remember() -> None:
        then.append((later(), read(service, caller, token["id"])))

    remember()
    use(service, token["token"])
    remember()
    rotated = service.client.post(f"{path}/rotate", auth=caller, json={"overlap_seconds": 3600})
    assert rotated.status_code == 200
    remember()
    for _ in range(2):
        use(service, token["token"])
        remember()
    service.client.delete(path, auth=caller)
    remember()
    use(service, token["token"])  # refused, and recorded as that
    remember()

    documents = [document for _, document in then]
    assert len({str(document) for document in documents}) == 6
    assert documents[-2:] == [404, 404]
    # A rotation that was under way is told of the present only: the trail tells of the past.
    assert "rotation" in str(documents[3])
    for document in documents:
        if isinstance(document, dict):
            document.pop("rotation", None)
    assert [read(service, caller, token["id"], at) for at, _ in then] == documents


def test_the_instant_itself_is_included(
    service: RunningService, caller: Caller, team: UUID
) -> None:
    token = create(service, caller, team=team)
    at = datetime.fromisoformat(token["created_at"])

    assert read(service, caller, token["id"], at) == {
        name: value for name, value in token.items() if name != "token"
    }
    assert read(service, caller, token["id"], at - timedelta(milliseconds=1)) == 404


def test_a_list_is_what_it_was(service: RunningService, caller: Caller, team: UUID) -> None:
    first = create(service, caller, team=team, name="Okta")
    second = create(service, caller, team=team, name="Entra")
    at = later()
    as_of = {"as_of": text(at)}
    service.client.delete(f"/scim-token/{first['id']}", auth=caller)
    third = create(service, caller, team=team, name="Okta")

    assert ids(service, caller) == [third["id"], second["id"]]
    assert ids(service, caller, **as_of) == [second["id"], first["id"]]
    assert ids(service, caller, **as_of, name="Okta") == [first["id"]]
    assert ids(service, caller, **as_of, status="revoked") == []
    assert ids(service, caller, as_of=text(later()), status="revoked") == [first["id"]]
    assert ids(service, caller, **as_of, status="all") == [second["id"], first["id"]]
    assert ids(service, caller, **as_of, team_id=str(uuid4())) == []
    assert ids(service, caller, as_of=BEFORE_ALL) == []


def test_a_token_that_expires_is_active_before_and_expired_after(
    service: RunningService, caller: Caller, team: UUID
) -> None:
    expires_at = now() + timedelta(milliseconds=300)
    token = create(service, caller, team=team, expires_at=text(expires_at))
    after = later(expires_at)

    assert ids(service, caller, as_of=token["created_at"]) == [token["id"]]
    assert ids(service, caller, as_of=token["created_at"], status="expired") == []
    assert ids(service, caller, as_of=text(after)) == []
    assert ids(service, caller, as_of=text(after), status="expired") == [token["id"]]


def test_pages_of_the_past_do_not_shift(
    service: RunningService, caller: Caller, team: UUID
) -> None:
    tokens = [create(service, caller, team=team)["id"] for _ in range(5)]
    params: dict[str, Any] = {"as_of": text(later()), "limit": 2}

    seen, cursor = [], ""
    while cursor is not None:
        body = service.client.get(
            "/scim-token", auth=caller, params=params | {"next_cursor": cursor}
        ).json()
        seen += [token["id"] for token in body["result"]]
        cursor = body["next_cursor"]
        create(service, caller, team=team)
        service.client.delete(f"/scim-token/{tokens.pop()}", auth=caller) if tokens else None
    assert len(seen) == len(set(seen)) == 5


def test_the_past_of_others_is_not_told(
    service: RunningService, caller: Caller, admin: Caller
) -> None:
    foreign = create(service, admin)
    for token_id in (foreign["id"], str(uuid4())):
        assert_not_found(
            service.client.get(
                f"/scim-token/{token_id}", auth=caller, params={"as_of": text(later())}
            )
        )


def test_a_cursor_of_the_present_is_none_of_the_past(
    service: RunningService, caller: Caller, team: UUID
) -> None:
    for _ in range(2):
        create(service, caller, team=team)
    params: dict[str, Any] = {"limit": 1}
    cursor = service.client.get("/scim-token", auth=caller, params=params).json()["next_cursor"]

    params |= {"next_cursor": cursor, "as_of": text(later())}
    assert service.client.get("/scim-token", auth=caller, params=params).status_code == 400


@pytest.mark.parametrize(
    ("as_of", "detail"),
    [
        ("2999-01-01T00:00:00Z", "is in the future"),
        ("2021-08-10T10:00:00", "needs a time zone, such as a Z at the end"),
        ("0001-01-01T00:00:00Z", "is out of range"),
        ("then", "must be an instant, such as 2021-08-10T10:00:00.000Z"),
    ],
)
def test_an_instant_that_means_nothing_is_refused(
    service: RunningService, caller: Caller, as_of: str, detail: str
) -> None:
    for path in ("/scim-token", f"/scim-token/{uuid4()}"):
        answer = service.client.get(path, auth=caller, params={"as_of": as_of})
        assert_invalid(answer, "as_of", detail, about="A parameter is not valid.")


def test_filters_by_use_are_of_the_present(service: RunningService, caller: Caller) -> None:
    params = {"as_of": BEFORE_ALL, "never_used": "true"}
    assert_invalid(
        service.client.get("/scim-token", auth=caller, params=params),
        "never_used",
        "cannot go with as_of",
        about="Two filters do not go together.",
    )
