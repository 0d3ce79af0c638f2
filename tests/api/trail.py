"""The audit trail over HTTP: what its tests share."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from domain.scim_token.events import Presentation
from domain.secret import Secret, parse
from tests.api.expected import WARNING_KINDS, create
from tests.conftest import now
from tests.service import Caller, RunningService, until

ROW: Final = [
    *(
        "position",
        "at",
        "kind",
        "outcome",
        "reason",
        "team_id",
        "token_id",
        "user_id",
        "api_token_id",
    ),
    *(
        "door",
        "source",
        "user_agent",
        "method",
        "path_class",
        "note",
        "count",
        "use_id",
        "operator",
        "secret",
        "cause",
    ),
]


@pytest.fixture
def auditor(service: RunningService, team: UUID) -> Caller:
    """May do everything, for one team."""
    return service.api_token(teams=[team])


@pytest.fixture
def token(service: RunningService, auditor: Caller, team: UUID) -> dict[str, Any]:
    return create(service, auditor, team=team)


def events_of(token: dict[str, Any]) -> str:
    return f"/scim-token/{token['id']}/events"


def present(service: RunningService, secret: str, **how: Any) -> None:
    """Use a SCIM token in a way that a test chooses, source and all, as a door does."""
    known: Secret = parse(secret)
    presentation = Presentation(**({"door": "scim"} | how))
    service.command(lambda ledger: ledger.authenticate(known, presentation))


def audit(
    service: RunningService, caller: Caller, path: str = "/audit", **params: Any
) -> list[dict[str, Any]]:
    """One page of rows, without warnings unless kinds are asked for."""
    answer = service.client.get(path, auth=caller, params=params)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["result"]
    assert all(list(row) == ROW for row in rows)
    return [row for row in rows if "kind" in params or row["kind"] not in WARNING_KINDS]


PAGES_AT_MOST: Final = 500
"""More than any test fills."""


def walk(
    service: RunningService, caller: Caller, path: str = "/audit", **params: Any
) -> Iterator[list[dict[str, Any]]]:
    """Page after page, as the platform's own client asks for them."""
    cursor: str | None = ""
    for _ in range(PAGES_AT_MOST):
        if cursor is None:
            return
        answer = service.client.get(path, auth=caller, params={**params, "next_cursor": cursor})
        assert answer.status_code == 200, answer.text
        body: Mapping[str, Any] = answer.json()
        yield body["result"]
        cursor = body["next_cursor"]
    raise AssertionError("the list has no end")


def kinds(rows: list[dict[str, Any]]) -> list[str]:
    """What happened, in the order of the rows."""
    return [row["kind"] for row in rows]


def later(than: datetime | None = None) -> datetime:
    """An instant after everything so far, and before everything from now on."""
    start = than or now()
    until(lambda: now() > start, what="the next millisecond")
    found = now()
    until(lambda: now() > found, what="the next millisecond")
    return found


def text(at: datetime) -> str:
    """An instant as a parameter."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def plain(service: RunningService) -> Iterator[httpx.Client]:
    """A client whose answers are not read before the test does it."""
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False, verify=False) as client:
        yield client


def own(caller: Caller) -> dict[str, Any]:
    """How a caller's changes are signed."""
    return {"user_id": str(caller.user_id), "api_token_id": str(caller.id)}


def uuids(*ids: UUID) -> list[str]:
    """As they are in answers."""
    return [str(id_) for id_ in ids]
