"""What answers look like: whole bodies, to be compared with `==`."""

import re
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from domain.scim_token import warnings
from tests.service import Caller, RunningService

UUID_TEXT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SCIM_SECRET: Final = re.compile(r"scim_live_[0-9A-Za-z]{49}")
FIELDS: Final = ["id", "team_id", "name", "created_by", "last_used_at", "created_at", "updated_at"]
CHALLENGE: Final = 'Bearer realm="scim-ledger"'
INVALID_TOKEN: Final = 'Bearer realm="scim-ledger", error="invalid_token"'
_TITLES: Final = {
    "bad-request": "Bad request",
    "validation": "The request is not valid",
    "unauthenticated": "Authentication needed",
    "permission-denied": "Permission denied",
    "not-found": "Not found",
    "method-not-allowed": "Method not allowed",
    "already-underway": "Already under way",
    "rotation-underway": "A rotation is under way",
    "rotation-finished": "No rotation is under way",
    "last-manager": "The last manager",
    "secret-already-shown": "The secret was already shown",
    "used-since": "Used since then",
    "too-large": "Body too large",
    "unsupported-media-type": "Unsupported media type",
    "idempotency-key-reused": "Idempotency key reused",
    "policy": "A policy does not allow this",
    "too-many-requests": "Too many requests",
    "unavailable": "Temporarily unavailable",
}

WARNINGS: Final = frozenset(event.topic for event in warnings.EVENTS)
"""Told when the service gets to it: a test that is not about them sees none or some."""
WARNING_KINDS: Final = frozenset(topic.rpartition(".")[0] for topic in WARNINGS)


def assert_problem(
    answer: httpx.Response, status: int, slug: str, detail: str, **members: Any
) -> None:
    """The whole body of an RFC 9457 problem, and the headers that every one of them has."""
    assert answer.status_code == status, answer.text
    assert answer.json() == {
        "type": f"/problems/{slug}",
        "title": _TITLES[slug],
        "status": status,
        "detail": detail,
        "instance": f"urn:uuid:{answer.headers['x-request-id']}",
        **members,
    }
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


def assert_invalid(
    answer: httpx.Response, pointer: str, detail: str, *, about: str = "The body is not valid."
) -> None:
    """A value broke a rule."""
    assert_problem(
        answer, 400, "validation", about, errors=[{"pointer": pointer, "detail": detail}]
    )


def assert_not_found(answer: httpx.Response) -> None:
    """Missing, foreign, revoked: one answer."""
    assert_problem(answer, 404, "not-found", "There is no such resource.")


def assert_unauthenticated(answer: httpx.Response, detail: str, *, was_presented: bool) -> None:
    """401, with the challenge of RFC 6750."""
    assert_problem(answer, 401, "unauthenticated", detail)
    assert answer.headers["www-authenticate"] == (INVALID_TOKEN if was_presented else CHALLENGE)


def create(
    service: RunningService,
    caller: Caller,
    *,
    team: UUID | None = None,
    name: str = "Okta",
    **fields: Any,
) -> dict[str, Any]:
    """Create a SCIM token over HTTP; the answer's body."""
    body = {"team_id": str(team or uuid4()), "name": name, **fields}
    answer = service.client.post("/scim-token", auth=caller, json=body)
    assert answer.status_code == 201, answer.text
    token: dict[str, Any] = answer.json()
    return token


def use(service: RunningService, secret: str) -> httpx.Response:
    """Present a SCIM token as an identity provider does: 501 says that it was let in."""
    return service.client.get("/scim/v2/Users", headers={"Authorization": f"Bearer {secret}"})


def topics(service: RunningService, aggregate_id: object) -> list[str]:
    """The events of one aggregate, in order, without those that the service tells by itself."""
    return [topic for topic in all_topics(service, aggregate_id) if topic not in WARNINGS]


def all_topics(service: RunningService, aggregate_id: object) -> list[str]:
    """The events of one aggregate, in order."""
    rows = service.query(
        "SELECT topic FROM ledger.events WHERE originator_id = %s ORDER BY originator_version",
        aggregate_id,
    )
    return [topic for (topic,) in rows]


def instant(text: str) -> datetime:
    """A date-time of an answer."""
    assert INSTANT.fullmatch(text), text
    return datetime.fromisoformat(text)
