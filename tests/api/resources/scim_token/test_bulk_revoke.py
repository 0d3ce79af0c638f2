"""`POST /scim-token/revoke`: many tokens by conditions, with whole answers."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewScimToken
from domain.ledger import TokenLedger
from tests.api.expected import (
    UUID_TEXT,
    assert_invalid,
    assert_problem,
    create,
    topics,
    use,
)
from tests.api.resources.scim_token.words import ABSENT, NO_UUID, SECRET_SHAPED, head
from tests.api.trail import audit
from tests.service import Caller, RunningService
from tests.turns import by_turns

PATH: Final = "/scim-token/revoke"
NO_IDS: Final = f"must be a list of 1 to 1000, each of which {NO_UUID}"
NO_INSTANT: Final = "must be an instant, such as 2021-08-10T10:00:00.000Z"


def ask(
    service: RunningService, caller: Caller, where: Any, *, key: str | None = None, **more: Any
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return service.client.post(PATH, auth=caller, json={"where": where, **more}, headers=headers)


def told(*tokens: dict[str, Any]) -> list[dict[str, Any]]:
    """What an answer tells of tokens, newest first."""
    fields = ("id", "team_id", "name", "last_used_at")
    return [{name: token[name] for name in fields} for token in reversed(tokens)]


def after(at: str) -> str:
    return f"{datetime.fromisoformat(at) + timedelta(milliseconds=1):%Y-%m-%dT%H:%M:%S.%fZ}"


def test_all_tokens_of_a_team_are_revoked_for_one_cause(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    tokens = [create(service, admin, team=team, name=f"Okta {n}") for n in range(3)]
    gone, other = create(service, admin, team=team), create(service, admin)
    service.client.delete(f"/scim-token/{gone['id']}", auth=admin)
    answer = ask(service, admin, {"team_id": str(team)}, reason="left")
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert UUID_TEXT.fullmatch(done["cause"])
    assert done == {"matched": 3, "revoked": 3, "result": told(*tokens), "cause": done["cause"]}
    assert list(done) == ["matched", "revoked", "result", "cause"]
    for token in tokens:
        assert use(service, token["token"]).status_code == 401
        (row,) = audit(service, admin, token_id=token["id"], kind="scim_token.revoked")
        assert (row["cause"], row["reason"], row["user_id"]) == (
            done["cause"],
            "left",
            str(admin.user_id),
        )
    assert use(service, other["token"]).status_code == 501
    feed = service.client.get("/events", auth=service.api_token(teams=[team])).json()
    causes = [each["data"]["cause"] for each in feed if each["type"] == "scim_token.revoked"]
    assert causes == [None, *[done["cause"]] * 3]


def test_a_dry_run_says_which_and_revokes_none(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    tokens = [create(service, admin, team=team) for _ in range(2)]
    answer = ask(service, admin, {"team_id": str(team)}, dry_run=True)
    expected = {"matched": 2, "revoked": 0, "result": told(*tokens), "cause": None}
    assert (answer.status_code, answer.json()) == (200, expected)
    for token in tokens:
        assert topics(service, token["id"]) == ["scim_token.created.v1"]


@pytest.mark.parametrize(
    ("where", "is_chosen"),
    by_turns(
        [
            (lambda token: {"ids": [token["id"], str(uuid4())]}, True),
            (lambda token: {"created_by": token["created_by"]}, True),
            (lambda _: {"created_by": str(uuid4())}, False),
            (lambda token: {"created_before": after(token["created_at"])}, True),
            (lambda token: {"created_before": token["created_at"]}, False),
            (lambda token: {"unused_since": after(token["last_used_at"])}, True),
            (lambda token: {"unused_since": token["last_used_at"]}, False),
            (lambda token: {"ids": [token["id"]], "unused_since": token["last_used_at"]}, False),
        ],
        one_of=3,
    ),
    ids=["id", "creator", "other", "older", "younger", "unused", "used", "both must hold"],
)
def test_each_condition_chooses(
    service: RunningService,
    admin: Caller,
    team: UUID,
    where: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    is_chosen: bool,
) -> None:
    token = create(service, admin, team=team)
    use(service, token["token"])
    token |= service.client.get(f"/scim-token/{token['id']}", auth=admin).json()
    answer = ask(service, admin, {"team_id": str(team), **where(token)}).json()
    assert (answer["matched"], answer["revoked"]) == (is_chosen, is_chosen)
    assert answer["result"] == (told(token) if is_chosen else [])
    assert use(service, token["token"]).status_code == (401 if is_chosen else 501)


def test_foreign_tokens_are_neither_matched_nor_counted(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    """Whichever condition would choose them; the answer is that of tokens that are not there."""
    own, foreign = create(service, admin, team=team), create(service, admin)
    use(service, foreign["token"])
    caller = service.api_token(Permission.SCIM_TOKENS_WRITE, teams=[team, uuid4()])
    for where in (
        {"team_id": foreign["team_id"]},
        {"ids": [foreign["id"]]},
        {"ids": [foreign["id"]], "team_id": foreign["team_id"]},
    ):
        nothing = ask(service, caller, where).json()
        assert nothing == {"matched": 0, "revoked": 0, "result": [], "cause": nothing["cause"]}
    for where in ({"created_by": own["created_by"]}, {"ids": [own["id"], foreign["id"]]}):
        found = ask(service, caller, where, dry_run=True).json()
        assert found == {"matched": 1, "revoked": 0, "result": told(own), "cause": None}
    assert ask(service, caller, {"created_by": own["created_by"]}).json()["revoked"] == 1
    assert topics(service, foreign["id"]) == ["scim_token.created.v1", "scim_token.used.v1"]


def test_a_repeat_with_its_key_tells_the_same_and_leaves_newer_tokens_alone(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    tokens = [create(service, admin, team=team) for _ in range(2)]
    key, where = str(uuid4()), {"team_id": str(team)}
    first = ask(service, admin, where, key=key)
    newer = create(service, admin, team=team)
    again = ask(service, admin, where, key=key)
    assert first.json() == again.json()
    assert first.json()["revoked"] == 2
    assert use(service, newer["token"]).status_code == 501
    for token in tokens:
        assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.revoked.v1"]
    assert_problem(
        ask(service, admin, {"created_by": str(uuid4())}, key=key),
        422,
        "idempotency-key-reused",
        "The Idempotency-Key was used for another request.",
    )


def test_without_a_key_each_request_has_a_cause_of_its_own(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    causes = [ask(service, admin, {"team_id": str(team)}).json()["cause"] for _ in range(2)]
    assert causes[0] != causes[1]


@pytest.mark.long
def test_more_than_a_thousand_are_counted_and_the_first_thousand_told(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    ids = service.command(lambda ledger: many(ledger, team, 1203))
    answer = ask(service, admin, {"team_id": str(team)}, dry_run=True).json()
    assert (answer["matched"], len(answer["result"])) == (1203, 1000)
    done = ask(service, admin, {"team_id": str(team)}).json()
    assert (done["matched"], done["revoked"]) == (1203, 1203)
    assert done["result"] == answer["result"]
    assert {row["id"] for row in done["result"]} < ids


async def many(ledger: TokenLedger, team: UUID, count: int) -> set[str]:
    made = await asyncio.gather(
        *(
            ledger.create_scim_token(NewScimToken(team, "Okta"), by=Operator(uuid4()))
            for _ in range(count)
        )
    )
    return {str(token.id) for token, _ in made}


# Bad input


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    by_turns(
        [
            ({}, "/where", "is required"),
            ({"where": None}, "/where", "must be an object"),
            ({"where": []}, "/where", "must be an object"),
            ({"where": {}}, "/where", "must have one condition at least"),
            ({"where": {"team_id": None}}, "/where/team_id", NO_UUID),
            ({"where": {"team_id": "Okta"}}, "/where/team_id", NO_UUID),
            ({"where": {"created_by": 7}}, "/where/created_by", NO_UUID),
            ({"where": {"ids": []}}, "/where/ids", NO_IDS),
            ({"where": {"ids": ["x"]}}, "/where/ids", NO_IDS),
            ({"where": {"ids": ABSENT}}, "/where/ids", NO_IDS),
            ({"where": {"ids": [ABSENT] * 1001}}, "/where/ids", NO_IDS),
            ({"where": {"unused_since": "yesterday"}}, "/where/unused_since", NO_INSTANT),
            (
                {"where": {"unused_since": "2999-01-01T00:00:00Z"}},
                "/where/unused_since",
                "is in the future",
            ),
            ({"where": {"unused_since": 1628589600}}, "/where/unused_since", NO_INSTANT),
            (
                {"where": {"unused_since": "2021-08-10T10:00:00"}},
                "/where/unused_since",
                "needs a time zone, such as a Z at the end",
            ),
            (
                {"where": {"created_before": "0001-01-01T00:00:00+14:00"}},
                "/where/created_before",
                "is out of range",
            ),
            (
                {"where": {"created_before": "9999-12-31T23:59:59-14:00"}},
                "/where/created_before",
                "is out of range",
            ),
            ({"where": {"team": ABSENT}}, "/where/team", "is not a field of this resource"),
            (
                {"where": {"violates_policy": False}},
                "/where/violates_policy",
                "must be true, or left out",
            ),
            ({"where": {SECRET_SHAPED: 1}}, "/where/*", "is not a field of this resource"),
            ({"where": {"team_id": ABSENT}, "dry_run": "yes"}, "/dry_run", "must be true or false"),
            (
                {"where": {"team_id": ABSENT}, "dryrun": True},
                "/dryrun",
                "is not a field of this resource",
            ),
            (
                {"where": {"team_id": ABSENT}, "reason": ""},
                "/reason",
                "must be a string of 1 to 200 characters",
            ),
            (
                {"where": {"team_id": ABSENT}, "reason": SECRET_SHAPED},
                "/reason",
                "must not hold a secret",
            ),
        ],
        one_of=3,
    ),
)
def test_a_body_against_the_rules_is_refused(
    service: RunningService, admin: Caller, body: Any, pointer: str, detail: str
) -> None:
    answer = service.client.post(PATH, auth=admin, json=body)
    assert_invalid(answer, pointer, detail)


def test_all_that_is_wrong_is_told_at_once(service: RunningService, admin: Caller) -> None:
    where = {"team_id": "Okta", "unused_since": "x", "ids": [ABSENT], "team": 1}
    answer = ask(service, admin, where, reason=" ", dryrun=True)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [
        "/where/team_id",
        "/where/unused_since",
        "/where/team",
        "/reason",
        "/dryrun",
    ]


def test_a_condition_that_is_there_twice_is_refused(service: RunningService, admin: Caller) -> None:
    body = b'{"where": {"team_id": "%s", "team_id": "%s"}}' % (ABSENT.encode(), ABSENT.encode())
    answer = service.client.post(
        PATH, auth=admin, content=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(answer, 400, "bad-request", "The body names a field twice.")


JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES: Final = st.sampled_from(
    ["team_id", "created_by", "ids", "unused_since", "created_before", "violates_policy", "id", ""]
)


SHORT: Final = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NO_GOOD: Final = {
    "where": st.dictionaries(NAMES, JSON, max_size=4).filter(
        lambda where: where.get("violates_policy") is not True
    )
    | JSON,
    "more": st.dictionaries(
        st.sampled_from(["dry_run", "reason", "where ", "x"]), JSON, max_size=2
    ),
}
"""No value of these strategies is a UUID or an instant, so none of them is a condition."""


@SHORT
@given(**NO_GOOD)
def test_whatever_is_no_good_body_is_told_where_and_changes_nothing(
    service: RunningService, admin: Caller, where: Any, more: dict[str, Any]
) -> None:
    assert_told_where(service, admin, where, more)


@pytest.mark.long
@settings(SHORT, max_examples=150)
@given(**NO_GOOD)
def test_so_is_each_of_many(
    service: RunningService, admin: Caller, where: Any, more: dict[str, Any]
) -> None:
    assert_told_where(service, admin, where, more)


def assert_told_where(
    service: RunningService, admin: Caller, where: Any, more: dict[str, Any]
) -> None:
    """A refusal that names its place, and no event."""
    before = head(service)
    answer = service.client.post(PATH, auth=admin, json={"where": where, **more})
    assert answer.status_code == 400, answer.text
    errors = answer.json().get("errors", [])
    assert errors, answer.text
    assert all(error["pointer"].startswith("/") for error in errors)
    assert head(service) == before
