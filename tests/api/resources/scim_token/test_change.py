"""`DELETE /scim-token/{id}` and `POST …/rotate`: one test per outcome, with the whole answer."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from tests.api.expected import (
    FIELDS,
    SCIM_SECRET,
    assert_invalid,
    assert_not_found,
    assert_problem,
    create,
    topics,
    use,
)
from tests.api.resources.scim_token.words import CONTROL, SECRET_SHAPED, SHOWN
from tests.api.trail import audit
from tests.service import Caller, RunningService
from tests.turns import by_turns

NO_OVERLAP: Final = "must be a whole number from 0 to 2592000"


def test_delete_is_final_and_repeats_its_answer(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}"
    for _ in range(3):
        answer = service.client.delete(path, auth=admin)
        assert answer.status_code == 200
        assert answer.json() == {"id": token["id"]}
        assert answer.headers["content-type"] == "application/json"
    assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.revoked.v1"]
    assert use(service, token["token"]).status_code == 401
    assert_not_found(service.client.get(path, auth=admin))
    assert_not_found(service.client.post(f"{path}/rotate", auth=admin, json={}))
    listed = service.client.get("/scim-token", auth=admin, params={"team_id": str(team)})
    assert listed.json()["result"] == []


def test_a_missing_token_cannot_be_deleted(service: RunningService, admin: Caller) -> None:
    assert_not_found(service.client.delete(f"/scim-token/{uuid4()}", auth=admin))


def test_an_api_token_cannot_be_deleted_as_a_scim_token(
    service: RunningService, admin: Caller
) -> None:
    assert_not_found(service.client.delete(f"/scim-token/{admin.id}", auth=admin))
    assert service.client.get("/scim-token", auth=admin, params={"limit": 1}).status_code == 200


# Rotate


def test_rotate_shows_a_second_secret_and_the_first_goes_on(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin, json={})
    assert answer.status_code == 200
    assert answer.headers["location"] == f"/scim-token/{token['id']}"
    assert answer.headers["cache-control"] == "no-store"
    rotated = answer.json()
    assert list(rotated) == [*FIELDS, "rotated_at", "rotation", "token"]
    assert SCIM_SECRET.fullmatch(rotated["token"])
    assert rotated["token"] != token["token"]
    assert rotated["updated_at"] == rotated["rotated_at"]
    rotation = rotated["rotation"]
    assert list(rotation.values()) == [rotated["rotated_at"], rotation["ends_at"], None, None]
    month = datetime.fromisoformat(rotation["ends_at"]) - datetime.fromisoformat(
        rotated["rotated_at"]
    )
    assert month == timedelta(days=30)
    moved = {name: rotated[name] for name in ("updated_at", "rotated_at", "rotation", "token")}
    assert rotated == token | moved
    for secret in (token["token"], rotated["token"]):
        assert use(service, secret).status_code == 501
    read = service.client.get(f"/scim-token/{token['id']}", auth=admin).json()
    assert list(read) == [*FIELDS, "rotated_at", "rotation"]
    assert list(read["rotation"]) == list(rotation)
    assert read["rotation"]["new_first_used_at"] >= read["rotation"]["old_last_used_at"]


def rotating(service: RunningService, admin: Caller, team: UUID) -> tuple[str, str, str]:
    """The path, the older and the newer secret of a token that is rotated."""
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}"
    rotated = service.client.post(f"{path}/rotate", auth=admin)
    return path, token["token"], rotated.json()["token"]


@pytest.mark.parametrize(("end", "statuses"), [("complete", [401, 501]), ("cancel", [501, 401])])
def test_a_rotation_is_ended_by_somebody_once(
    service: RunningService, admin: Caller, team: UUID, end: str, statuses: list[int]
) -> None:
    path, older, newer = rotating(service, admin, team)
    answer = service.client.post(
        f"{path}/rotate/{end}",
        auth=admin,
        json={"reason": "why not"},
        headers={"Idempotency-Key": f"end {path}"},
    )
    assert answer.status_code == 200
    assert answer.json() == service.client.get(path, auth=admin).json()
    assert "rotation" not in answer.json()
    assert [use(service, secret).status_code for secret in (older, newer)] == statuses
    again = service.client.post(
        f"{path}/rotate/{end}",
        auth=admin,
        json={"reason": "why not"},
        headers={"Idempotency-Key": f"end {path}"},
    )
    assert again.status_code == 200
    for late in ("complete", "cancel"):
        assert_problem(
            service.client.post(f"{path}/rotate/{late}", auth=admin),
            409,
            "rotation-finished",
            "No rotation is under way: it has finished, or there was none.",
        )
    events = service.client.get(f"{path}/events", auth=admin).json()["result"]
    told = [event for event in events if event["kind"].startswith("scim_token.rotation_")]
    kind = {"complete": "scim_token.rotation_completed", "cancel": "scim_token.rotation_cancelled"}
    assert [(event["kind"], event["reason"]) for event in told] == [(kind[end], "why not")]


def test_tokens_that_are_rotating_are_listed(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    path, _, _ = rotating(service, admin, team)
    mine = {"team_id": str(team), "rotating": "true"}

    def listed() -> list[str]:
        found = service.client.get("/scim-token", auth=admin, params=mine).json()["result"]
        assert all("rotation" in token for token in found)
        return [token["id"] for token in found]

    assert path.rpartition("/")[2] in listed()
    service.client.post(f"{path}/rotate/complete", auth=admin)
    assert path.rpartition("/")[2] not in listed()


def test_rotate_without_overlap_ends_the_first_secret(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}/rotate"
    rotated = service.client.post(path, auth=admin, json={"overlap_seconds": 0})
    assert use(service, token["token"]).status_code == 401
    assert use(service, rotated.json()["token"]).status_code == 501


def test_a_key_of_one_tokens_rotation_is_no_repeat_for_another(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    """E6: what is asked for is the path, too."""
    one, other = create(service, admin, team=team), create(service, admin, team=team)
    key = {"Idempotency-Key": str(uuid4())}
    assert service.client.post(
        f"/scim-token/{one['id']}/rotate", auth=admin, json={}, headers=key
    ).is_success
    answer = service.client.post(
        f"/scim-token/{other['id']}/rotate", auth=admin, json={}, headers=key
    )
    assert_problem(
        answer, 422, "idempotency-key-reused", "The Idempotency-Key was used for another request."
    )
    assert topics(service, other["id"]) == ["scim_token.created.v1"]


def test_a_second_rotation_has_to_wait_a_moment(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    """B11."""
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}/rotate"
    assert service.client.post(path, auth=admin, json={}).status_code == 200
    again = service.client.post(path, auth=admin, json={"overlap_seconds": 0})
    assert_problem(
        again, 429, "too-many-requests", "The token was rotated a moment ago. Wait, then try again."
    )
    assert 1 <= int(again.headers["retry-after"]) <= 10
    assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.rotated.v1"]


def test_a_third_good_secret_is_refused(service: RunningService, admin: Caller, team: UUID) -> None:
    """B11.

    The rotation before was an hour ago: its event and the state that it led to are set back.
    """
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}/rotate"
    rotated_at = service.client.post(path, auth=admin, json={}).json()["rotated_at"]
    earlier = f"{datetime.fromisoformat(rotated_at) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S.000Z}"
    service.query(
        "UPDATE ledger.aggregates "
        "SET state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb, "
        "'{rotated_at}', to_jsonb(%s::text))::text, 'UTF8') WHERE originator_id = %s",
        earlier,
        token["id"],
    )
    again = service.client.post(path, auth=admin, json={"overlap_seconds": 60})
    assert_problem(
        again,
        409,
        "rotation-underway",
        "The token has two good secrets; complete or cancel its rotation, wait for the end of the "
        "older one, or rotate it without an overlap, which ends both at once.",
    )
    assert service.client.post(path, auth=admin, json={"overlap_seconds": 0}).status_code == 200


def test_a_repeated_rotation_mints_nothing(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    path, key = f"/scim-token/{token['id']}/rotate", {"Idempotency-Key": str(uuid4())}
    assert service.client.post(path, auth=admin, json={}, headers=key).status_code == 200
    again = service.client.post(path, auth=admin, json={}, headers=key)
    assert_problem(again, 409, "secret-already-shown", SHOWN, token_id=token["id"])
    assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.rotated.v1"]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"overlap_seconds": -1}, "/overlap_seconds", NO_OVERLAP),
        ({"overlap_seconds": 2_592_001}, "/overlap_seconds", NO_OVERLAP),
        ({"overlap_seconds": "1"}, "/overlap_seconds", NO_OVERLAP),
        ({"overlap": 1}, "/overlap", "is not a field of this resource"),
    ],
)
def test_an_overlap_out_of_range_is_refused(
    service: RunningService, admin: Caller, team: UUID, *, body: Any, pointer: str, detail: str
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin, json=body)
    assert_invalid(answer, pointer, detail)
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def test_a_rotation_without_a_body_is_one_with_the_usual_overlap(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    """D4: every field may be left out, so all of them may."""
    token = create(service, admin, team=team)
    answer = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin)
    assert answer.status_code == 200
    assert answer.json()["token"] != token["token"]
    assert use(service, token["token"]).status_code == 501  # let in, and forwarded to nobody
    document = service.client.get("/docs/openapi.json").json()
    assert (
        document["paths"]["/scim-token/{token_id}/rotate"]["post"]["requestBody"]["required"]
        is False
    )


@pytest.mark.parametrize("reason", ["left the company", "x" * 200, "نقل", "\N{ROCKET}"])
def test_a_revocation_says_why(
    service: RunningService, admin: Caller, team: UUID, reason: str
) -> None:
    """D8: as the command line has it, in the trail."""
    token = create(service, admin, team=team)
    answer = service.client.delete(
        f"/scim-token/{token['id']}", auth=admin, params={"reason": reason}
    )
    assert (answer.status_code, answer.json()) == (200, {"id": token["id"]})
    (row,) = audit(service, admin, token_id=token["id"], kind="scim_token.revoked")
    assert row["reason"] == reason


@pytest.mark.parametrize(
    ("reason", "detail"),
    by_turns(
        [
            ("", "must be 1 to 200 characters"),
            ("x" * 201, "must be 1 to 200 characters"),
            (" ", "must not be blank"),
            ("a\nb", CONTROL),
            ("\u202eolleh", "must not hold bidirectional overrides"),
            ("\u2800", "must hold a character that can be seen"),
            (SECRET_SHAPED, "must not hold a secret"),
        ],
        one_of=3,
    ),
)
def test_a_reason_against_the_rules_is_refused(
    service: RunningService, admin: Caller, team: UUID, reason: str, detail: str
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.delete(
        f"/scim-token/{token['id']}", auth=admin, params={"reason": reason}
    )
    assert_invalid(answer, "reason", detail, about="A parameter is not valid.")
    assert topics(service, token["id"]) == ["scim_token.created.v1"]
