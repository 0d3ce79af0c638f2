"""A20: names and reasons, generated: what the domain refuses is a 400,
all else comes back as sent.
"""

from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import InvalidValue
from domain.readable_text import check_text
from tests.api.expected import assert_problem, create
from tests.api.trail import audit
from tests.service import Caller, RunningService

TURNING: Final = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
UNSEEN: Final = (
    "\u200b\u00ad\u2060\ufeff\u3164\u2800\u115f\u0301\ufe0f\u3000\u2028\U000e0041\ue000\t\x7f"
)
JOINING: Final = "\u200c\u200d\u200e\u200f\N{WOMAN}\N{PERSONAL COMPUTER}\u0646\u0645"
texts = st.text(
    st.sampled_from(TURNING)
    | st.sampled_from(UNSEEN)
    | st.sampled_from(JOINING)
    | st.characters(codec="utf-8"),
    min_size=1,
    max_size=12,
)
few = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refusal(text: str) -> str | None:
    try:
        check_text(text, "", max_length=12)
    except InvalidValue as refused:
        return refused.detail
    return None


def assert_refused(answer: httpx.Response, pointer: str, detail: str, about: str) -> None:
    assert_problem(
        answer, 400, "validation", about, errors=[{"pointer": pointer, "detail": detail}]
    )


@settings(few, max_examples=20)
@given(name=texts)
def test_a_name_is_refused_alike_by_body_and_filter_or_comes_back_as_sent(
    service: RunningService, admin: Caller, name: str
) -> None:
    check_name(service, admin, name)


@pytest.mark.long
@few
@given(name=texts)
def test_so_is_each_of_many_names(service: RunningService, admin: Caller, name: str) -> None:
    check_name(service, admin, name)


def check_name(service: RunningService, admin: Caller, name: str) -> None:
    """Refused alike, or back as sent."""
    team, detail = str(uuid4()), refusal(name)
    made = service.client.post("/scim-token", auth=admin, json={"team_id": team, "name": name})
    query = {"team_id": team, "name": name}
    listed = service.client.get("/scim-token", auth=admin, params=query)
    if detail is not None:
        assert_refused(made, "/name", detail, "The body is not valid.")
        assert_refused(listed, "name", detail, "A parameter is not valid.")
        everything = service.client.get(
            "/scim-token", auth=admin, params={"team_id": team, "status": "all"}
        )
        assert everything.json()["result"] == []
        return
    assert made.status_code == 201
    found: list[dict[str, Any]] = listed.json()["result"]
    assert [(token["id"], token["name"]) for token in found] == [(made.json()["id"], name)]


@pytest.mark.long
@few
@given(reason=texts)
def test_a_reason_is_refused_and_ends_nothing_or_is_in_the_trail_as_sent(
    service: RunningService, admin: Caller, reason: str
) -> None:
    token, detail = create(service, admin), refusal(reason)
    path = f"/scim-token/{token['id']}"
    answer = service.client.delete(path, auth=admin, params={"reason": reason})
    if detail is not None:
        assert_refused(answer, "reason", detail, "A parameter is not valid.")
        assert service.client.get(path, auth=admin).status_code == 200
        return
    assert answer.status_code == 200
    (row,) = audit(service, admin, token_id=token["id"], kind="scim_token.revoked")
    assert row["reason"] == reason
