"""`POST /leak-report`: one test per outcome, with the whole body; the secret is never repeated."""

import json
import re
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from domain.api_token.permissions import Permission
from domain.secret import SecretKind, mint
from tests.api.expected import assert_invalid, assert_problem, create, topics, use
from tests.api.trail import audit
from tests.service import Caller, RunningService

URL: Final = "https://github.com/octocat/Hello-World/blob/main/config.yml"
UNKNOWN: Final = mint(SecretKind.SCIM_LIVE, bytes(32)).reveal()


def report(service: RunningService, caller: Caller, *found: Any, **headers: str) -> httpx.Response:
    return service.client.post("/leak-report", auth=caller, json=list(found), headers=headers)


def outcome(made: dict[str, Any], state: str, action: str) -> dict[str, str]:
    return {"state": state, "action": action, "token_id": made["id"]}


def test_a_live_token_ends_at_once_and_the_trail_says_why(
    service: RunningService, admin: Caller
) -> None:
    made = create(service, admin)
    assert use(service, made["token"]).status_code == 501
    answer = report(
        service, admin, {"token": made["token"], "url": f"{URL}?secret=x", "source": "github"}
    )
    assert answer.status_code == 200
    assert answer.json() == [outcome(made, "live", "revoked")]
    assert use(service, made["token"]).status_code == 401
    assert topics(service, UUID(made["id"]))[-3:] == [
        "scim_token.leaked.v1",
        "scim_token.revoked.v1",
        "scim_token.refused.v1",
    ]
    rows = audit(
        service, admin, token_id=made["id"], kind=["scim_token.leaked", "scim_token.revoked"]
    )
    ended, found = rows
    assert (found["reason"], found["note"]) == ("github", URL)
    assert re.fullmatch("[0-9a-f]{8}", found["secret"])
    assert (ended["reason"], ended["note"]) == ("leaked", None)
    assert found["use_id"] == ended["use_id"]
    for row in rows:
        assert (row["user_id"], row["api_token_id"]) == (str(admin.user_id), str(admin.id))


def test_what_is_over_unknown_or_malformed_is_told_and_nothing_happens(
    service: RunningService, admin: Caller
) -> None:
    made = create(service, admin)
    service.client.delete(f"/scim-token/{made['id']}", auth=admin)
    before = topics(service, UUID(made["id"]))
    texts = [made["token"], UNKNOWN, UNKNOWN[:-1], "hunter2"]
    answer = report(service, admin, *({"token": text} for text in texts))
    assert answer.json() == [
        outcome(made, "revoked", "none"),
        {"state": "unknown", "action": "none"},
        {"state": "malformed", "action": "none"},
        {"state": "malformed", "action": "none"},
    ]
    assert topics(service, UUID(made["id"])) == before


def test_an_api_token_ends_too(service: RunningService, admin: Caller) -> None:
    leaked = service.api_token()
    answer = report(service, admin, {"token": leaked.secret})
    assert answer.json() == [{"state": "live", "action": "revoked", "token_id": str(leaked.id)}]
    assert service.client.get("/scim-token", auth=leaked).status_code == 401


def test_a_hundred_at_once_are_answered_in_their_order(
    service: RunningService, admin: Caller
) -> None:
    made = [create(service, admin) for _ in range(3)]
    texts = [UNKNOWN] * 40 + [each["token"] for each in made] + ["x"] * 57
    answer = report(service, admin, *({"token": text} for text in texts))
    assert answer.json() == [
        *[{"state": "unknown", "action": "none"}] * 40,
        *(outcome(each, "live", "revoked") for each in made),
        *[{"state": "malformed", "action": "none"}] * 57,
    ]


@pytest.mark.parametrize("count", [0, 101])
def test_none_and_more_than_a_hundred_are_refused(
    service: RunningService, admin: Caller, count: int
) -> None:
    answer = report(service, admin, *[{"token": "x"}] * count)
    assert_invalid(answer, "", "must be an array of 1 to 100 objects")


def test_all_mistakes_are_told_at_once_without_what_was_sent(
    service: RunningService, admin: Caller
) -> None:
    made = create(service, admin)
    secret = made["token"]
    answer = report(
        service, admin, {"token": [secret]}, {secret: 1}, secret, {"token": secret, "url": 1}
    )
    assert_problem(
        answer,
        400,
        "validation",
        "The body is not valid.",
        errors=[
            {"pointer": "/0/token", "detail": "must be a string of 0 to 8192 characters"},
            {"pointer": "/1/token", "detail": "is required"},
            {"pointer": "/1/*", "detail": "is not a field of this resource"},
            {"pointer": "/2", "detail": "must be an object"},
            {"pointer": "/3/url", "detail": "must be a string of 0 to 8192 characters"},
        ],
    )
    assert topics(service, UUID(made["id"])) == ["scim_token.created.v1"]
    assert_invalid(
        service.client.post("/leak-report", auth=admin, json={"token": secret}),
        "",
        "must be an array of 1 to 100 objects",
    )


def test_a_repeat_with_the_same_key_does_nothing_more(
    service: RunningService, admin: Caller
) -> None:
    made = create(service, admin)
    key = {"Idempotency-Key": str(uuid4())}
    first = report(service, admin, {"token": made["token"]}, **key)
    again = report(service, admin, {"token": made["token"]}, **key)
    assert first.json() == [outcome(made, "live", "revoked")]
    assert again.json() == [outcome(made, "revoked", "none")]
    assert topics(service, UUID(made["id"])).count("scim_token.leaked.v1") == 1
    other = report(service, admin, {"token": create(service, admin)["token"]}, **key)
    assert other.status_code == 422


def test_a_foreign_token_is_unknown_and_nothing_happens_to_it(
    service: RunningService, admin: Caller
) -> None:
    team = uuid4()
    own, foreign = create(service, admin, team=team), create(service, admin)
    confined = service.api_token(Permission.LEAKS_REPORT, teams=[team])
    api = service.api_token()
    texts = [foreign["token"], api.secret, own["token"], UNKNOWN]
    answer = report(service, confined, *({"token": text} for text in texts))
    assert answer.json() == [
        {"state": "unknown", "action": "none"},
        {"state": "unknown", "action": "none"},
        outcome(own, "live", "revoked"),
        {"state": "unknown", "action": "none"},
    ]
    assert topics(service, UUID(foreign["id"])) == ["scim_token.created.v1"]
    assert service.client.get("/scim-token", auth=api).status_code == 200


def test_nothing_that_was_reported_stands_anywhere(service: RunningService, admin: Caller) -> None:
    made = create(service, admin)
    secret = made["token"]
    answer = report(
        service,
        admin,
        {"token": secret, "url": f"https://example.com/{secret}/x", "source": secret},
        {"token": secret + "x", "url": secret},
    )
    assert secret not in answer.text
    told = json.dumps(audit(service, admin, token_id=made["id"])) + service.log.read_text()
    stored = service.query("SELECT string_agg(convert_from(state, 'UTF8'), ' ') FROM ledger.events")
    assert secret[20:] not in told + str(stored)
