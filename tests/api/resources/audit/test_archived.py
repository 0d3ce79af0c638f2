"""What is asked of a running service across what has left the ledger: each row of before that has
not left, in either direction, from any position, in every format.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from domain.api_token.permissions import Permission
from domain.scim_token.events import Refused, Used
from projections.described import rfc3339
from tests.conftest import new_database
from tests.domain.scenario import MINUTE, T0, TEAM_ID
from tests.projections.archive.archiving import HOUR, TOKENS, archive, facts
from tests.projections.archive.test_any_history import leaving
from tests.projections.history import given
from tests.service import Caller, RunningService, running_service

HISTORY: Final = facts(
    [
        (number, what, later, source, count)
        for later in (HOUR, MINUTE, 25 * MINUTE)
        for number, what, source, count in (
            (0, "used", "192.0.2.1", 2),
            (0, "used", "2001:db8::1", 3),
            (0, "refused", "192.0.2.1", 1),
            (1, "used", "192.0.2.1", 5),
            (1, "refused", None, 1),
        )
    ]
    * 2
)
BEFORE: Final = T0 + 8 * HOUR
GONE: Final = leaving(HISTORY, BEFORE)
SECRET: Final = next(event.secret for _, event, _ in HISTORY if isinstance(event, Used))

FILTERS: Final[Mapping[str, dict[str, Any]]] = {
    "all": {},
    "a token": {"token_id": str(TOKENS[0])},
    "a secret": {"token_id": str(TOKENS[0]), "secret": SECRET},
    "uses": {"kind": "scim_token.used"},
    "refused": {"outcome": "refused"},
    "an address": {"source": "192.0.2.0/24"},
    "a team": {"team_id": str(TEAM_ID)},
    "a time": {"from": rfc3339(T0 + 3 * HOUR), "to": rfc3339(T0 + 9 * HOUR)},
    "what is old": {"to": rfc3339(BEFORE)},
}
SIZES: Final = (1, 3, 100)


class Archived(NamedTuple):
    """A service that ran meanwhile. before: the trail of before, by filter, the oldest first."""

    service: RunningService
    auditor: Caller
    of_team: Caller
    before: Mapping[str, Sequence[dict[str, Any]]]
    cursors: Mapping[str, tuple[int, str]]
    usage: Sequence[dict[str, Any]]


@pytest.fixture(scope="module")
def archived(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archived]:
    with new_database(server) as database:
        given(database, *HISTORY)
        with running_service(database) as service:
            auditor = service.api_token(Permission.AUDIT_READ)
            of_team = service.api_token(Permission.AUDIT_READ, teams=[TEAM_ID])
            before = {name: [*pages(service, auditor, 100, **FILTERS[name])] for name in FILTERS}
            cursors = {order: in_the_gap(service, auditor, order) for order in ("oldest", "newest")}
            told = usage(service, auditor)
            archive(database, tmp_path_factory.mktemp("archive"), BEFORE)
            yield Archived(service, auditor, of_team, before, cursors, told)


def page(service: RunningService, caller: Caller, **asked: Any) -> dict[str, Any]:
    answer = service.client.get("/audit", auth=caller, params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pages(
    service: RunningService, caller: Caller, limit: int, **asked: Any
) -> Iterator[dict[str, Any]]:
    """Every row of positions of the history, page by page."""
    asked = {"order": "oldest"} | asked
    cursor: str | None = ""
    while cursor is not None:
        found = page(service, caller, limit=limit, next_cursor=cursor, **asked)
        assert found["result"] or cursor == ""
        assert len(found["result"]) == limit or found["next_cursor"] is None
        yield from (row for row in found["result"] if row["position"] <= len(HISTORY))
        cursor = found["next_cursor"]


def in_the_gap(service: RunningService, caller: Caller, order: str) -> tuple[int, str]:
    """The position of an event that leaves, and a cursor that names it."""
    count = 1
    while True:
        found = page(service, caller, limit=count, order=order)
        if (position := found["result"][-1]["position"]) in GONE:
            return position, str(found["next_cursor"])
        count += 1


def usage(service: RunningService, caller: Caller) -> Sequence[dict[str, Any]]:
    """By the hour, of the first token."""
    asked = {"from": rfc3339(T0), "to": rfc3339(T0 + 24 * HOUR)}
    answer = service.client.get(f"/scim-token/{TOKENS[0]}/usage", auth=caller, params=asked)
    assert answer.status_code == 200, answer.text
    found: Sequence[dict[str, Any]] = answer.json()["result"]
    return found


def left(rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    return [row for row in rows if row["position"] not in GONE]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FILTERS)
def test_pages_have_what_has_not_left(archived: Archived, name: str, size: int) -> None:
    service, auditor, *_ = archived
    expected = left(archived.before[name])
    assert 0 < len(expected) < len(archived.before[name])
    assert [*pages(service, auditor, size, **FILTERS[name])] == expected
    newest = [*pages(service, auditor, size, order="newest", **FILTERS[name])]
    assert newest == expected[::-1]


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_a_cursor_of_an_event_that_has_left_goes_on(archived: Archived, order: str) -> None:
    service, auditor, _, before, cursors, _ = archived
    position, cursor = cursors[order]
    found = page(service, auditor, order=order, next_cursor=cursor, limit=1000)["result"]
    rows = left(before["all"])
    known = [row for row in found if row["position"] <= len(HISTORY)]
    if order == "oldest":
        assert known == [row for row in rows if row["position"] > position]
    else:
        assert known == [row for row in rows if row["position"] < position][::-1]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_exports_have_the_same(archived: Archived, name: str, form: str) -> None:
    service, auditor, *_ = archived
    asked = FILTERS[name] | {"order": "oldest", "format": form}
    answer = service.client.get("/audit", auth=auditor, params=asked)
    assert answer.status_code == 200
    expected = [row["position"] for row in left(archived.before[name])]
    if form == "csv":
        lines = answer.text.splitlines()[1:]
        found = [int(line.partition(",")[0]) for line in lines]
    else:
        rows = [json.loads(line) for line in answer.text.splitlines()]
        found = [row["position"] for row in rows]
        assert rows[: len(expected)] == left(archived.before[name])
    assert [position for position in found if position <= len(HISTORY)] == expected


@pytest.mark.parametrize("limit", SIZES)
def test_the_feed_goes_on_from_any_position(archived: Archived, limit: int) -> None:
    service, auditor, _, before, *_ = archived
    rows = left(before["all"])
    for after in range(len(HISTORY) + 1):
        asked = {"after": after, "limit": limit}
        answer = service.client.get("/events", auth=auditor, params=asked)
        assert answer.status_code == 200, answer.text
        found = [event["data"] for event in answer.json()]
        known = [row for row in found if row["position"] <= len(HISTORY)]
        assert known == [row for row in rows if row["position"] > after][:limit]
        link = re.fullmatch(r'<(\S+)>; rel="next"', answer.headers["link"])
        assert link is not None
        next_ = int(parse_qs(urlsplit(link[1]).query)["after"][0])
        assert next_ >= found[-1]["position"]
        assert found[limit:] == []
        assert len(found) < limit or next_ == found[-1]["position"]


def test_hours_count_what_has_not_left(archived: Archived) -> None:
    service, auditor, *_, before = archived
    expected = []
    for number, step in enumerate(before):
        begins = T0 + number * HOUR
        there = [
            event
            for position, (token, event, at) in enumerate(HISTORY, start=1)
            if token == TOKENS[0] and position not in GONE and _is_in(at, begins)
        ]
        uses = [event for event in there if isinstance(event, Used)]
        refusals = [event for event in there if isinstance(event, Refused)]
        sources = {
            event.presentation.source for event in there if isinstance(event, Used | Refused)
        }
        expected.append(
            step
            | {
                "uses": sum(event.count for event in uses),
                "refusals": len(refusals),
                "sources": len(sources),
            }
        )
    found = usage(service, auditor)
    assert found == expected
    assert found != before
    assert found[8:] == before[8:]


def _is_in(at: datetime, begins: datetime) -> bool:
    return begins <= at < begins + timedelta(hours=1)


def test_a_caller_with_teams_never_sees_that_it_was_extended(archived: Archived) -> None:
    service, auditor, of_team, *_ = archived
    kind = {"kind": "archive.extended"}
    (row,) = page(service, auditor, **kind)["result"]
    assert row["note"] == f"events 1 to {row_end()}; {len(GONE)} left the ledger"
    assert (row["team_id"], row["token_id"]) == (None, None)
    assert page(service, of_team, **kind)["result"] == []
    for form in ("ndjson", "csv"):
        asked = kind | {"format": form}
        answer = service.client.get("/audit", auth=of_team, params=asked)
        assert answer.text.count("archive.extended") == 0
    assert service.client.get("/events", auth=of_team, params=kind).json() == []
    (event,) = service.client.get("/events", auth=auditor, params=kind).json()
    assert (event["type"], event["data"]) == ("archive.extended", row)


def row_end() -> int:
    """The position of the last event before the archive's end."""
    return max(position for position, (*_, at) in enumerate(HISTORY, start=1) if at < BEFORE)
