"""`/scim-token/{id}/usage`, and the filters of the list that ask for use."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.expected import assert_invalid, assert_not_found, create, use
from tests.api.trail import later, present, text
from tests.service import Caller, RunningService

INVALID = "A parameter is not valid."
HOUR = timedelta(hours=1)


@pytest.fixture
def caller(service: RunningService, team: UUID) -> Caller:
    return service.api_token(teams=[team])


@pytest.fixture
def token(service: RunningService, caller: Caller, team: UUID) -> dict[str, Any]:
    return create(service, caller, team=team)


def usage(
    service: RunningService, caller: Caller, token: dict[str, Any], **params: Any
) -> dict[str, Any]:
    answer = service.client.get(f"/scim-token/{token['id']}/usage", auth=caller, params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def used_ids(service: RunningService, caller: Caller, **params: Any) -> set[str]:
    answer = service.client.get("/scim-token", auth=caller, params=params)
    assert answer.status_code == 200, answer.text
    return {token["id"] for token in answer.json()["result"]}


def totals(body: dict[str, Any]) -> tuple[int, int, int]:
    """Of all steps: the tests may run over the turn of an hour."""
    return (
        sum(step["uses"] for step in body["result"]),
        sum(step["refusals"] for step in body["result"]),
        max(step["sources"] for step in body["result"]),
    )


def test_uses_refusals_and_sources_are_counted(
    service: RunningService, caller: Caller, token: dict[str, Any]
) -> None:
    for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        present(service, token["token"], source=source)
    service.client.delete(f"/scim-token/{token['id']}", auth=caller)
    use(service, token["token"])

    created_at = datetime.fromisoformat(token["created_at"])
    day = created_at.replace(hour=0, minute=0, second=0, microsecond=0)
    params = {"from": text(day), "to": text(day + timedelta(days=2)), "step": "day"}
    body = usage(service, caller, token, **params)
    uses, refusals, sources = totals(body)
    assert (uses, refusals) == (3, 1)
    assert sources in {2, 3}  # the refused presentation came from wherever this test runs
    assert body["step"] == "day"
    assert (body["from"], body["to"]) == (text(day), text(day + timedelta(days=2)))
    assert [step["at"] for step in body["result"]] == [text(day), text(day + timedelta(days=1))]


def test_the_last_day_by_the_hour_is_what_is_told_unasked(
    service: RunningService, caller: Caller, token: dict[str, Any]
) -> None:
    use(service, token["token"])
    body = usage(service, caller, token)

    assert body["step"] == "hour"
    assert len(body["result"]) == 25
    assert totals(body)[0] == 1
    instants = [datetime.fromisoformat(step["at"]) for step in body["result"]]
    assert all(later_ - earlier == HOUR for earlier, later_ in pairwise(instants))
    assert list(body["result"][0]) == ["at", "uses", "refusals", "sources"]


def test_a_token_never_used_has_zeros(
    service: RunningService, caller: Caller, token: dict[str, Any]
) -> None:
    assert totals(usage(service, caller, token)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("params", "pointer", "detail"),
    [
        ({"from": "2021-01-01T00:00:00Z"}, "from", "must be before `to`, by 999 steps at most"),
        (
            {"from": "2021-01-02T00:00:00Z", "to": "2021-01-01T00:00:00Z"},
            "from",
            "must be before `to`, by 999 steps at most",
        ),
        ({"step": "minute"}, "step", "must be one of: day, hour"),
        ({"from": "1950-01-01T00:00:00Z"}, "from", "is out of range"),
    ],
)
def test_a_range_that_means_nothing_is_refused(  # noqa: PLR0917 - the case and its parts
    service: RunningService,
    caller: Caller,
    token: dict[str, Any],
    params: dict[str, str],
    pointer: str,
    detail: str,
) -> None:
    answer = service.client.get(f"/scim-token/{token['id']}/usage", auth=caller, params=params)
    assert_invalid(answer, pointer, detail, about=INVALID)


def test_the_use_of_others_is_not_told(
    service: RunningService, caller: Caller, admin: Caller
) -> None:
    for token_id in (create(service, admin)["id"], uuid4()):
        assert_not_found(service.client.get(f"/scim-token/{token_id}/usage", auth=caller))


# The list


def test_never_used(
    service: RunningService, caller: Caller, team: UUID, token: dict[str, Any]
) -> None:
    other = create(service, caller, team=team)
    use(service, other["token"])

    assert used_ids(service, caller, never_used="true") == {token["id"]}
    assert used_ids(service, caller, never_used="false") == {token["id"], other["id"]}


def test_unused_since(
    service: RunningService, caller: Caller, team: UUID, token: dict[str, Any]
) -> None:
    idle = create(service, caller, team=team)
    use(service, token["token"])
    use(service, idle["token"])
    at = later()
    use(service, token["token"])
    young = create(service, caller, team=team)

    assert used_ids(service, caller, unused_since=text(at)) == {idle["id"]}
    assert used_ids(service, caller, unused_since=text(later())) == {
        token["id"],
        idle["id"],
        young["id"],
    }
    assert used_ids(service, caller, unused_since=token["created_at"]) == set()


def test_new_source_since(
    service: RunningService, caller: Caller, team: UUID, token: dict[str, Any]
) -> None:
    steady = create(service, caller, team=team)
    for each in (token, steady):
        present(service, each["token"], source="192.0.2.1")
    at = later()
    for each in (token, steady):
        present(service, each["token"], source="192.0.2.1")
    assert used_ids(service, caller, new_source_since=text(at)) == set()

    present(service, token["token"], source="198.51.100.7")
    assert used_ids(service, caller, new_source_since=text(at)) == {token["id"]}
    assert used_ids(service, caller, new_source_since=text(later())) == set()
    assert used_ids(service, caller, new_source_since=text(at), never_used="true") == set()
