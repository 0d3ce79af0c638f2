"""A new token: its form, and the one answer that shows its secret."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from tests.console.browsing import BASE_URL, Visitor, assert_guarded, hidden, secrets_in
from tests.service import RunningService
from tests.turns import by_turns

PATH = "/console/tokens/new"


def filled(visitor: Visitor, team: UUID, **more: str) -> dict[str, str]:
    return {**hidden(visitor.see(PATH)), "team_id": str(team), "name": "Acme, Okta", **more}


def test_the_secret_is_in_the_answer_and_nowhere_else(
    service: RunningService, visitor: Visitor, team: UUID
) -> None:
    fields = filled(visitor, team, reason="new customer")
    shown = visitor.send(PATH, fields)
    assert shown.status_code == 200
    assert_guarded(shown)
    (secret,) = secrets_in(shown.text)
    assert BASE_URL in shown.text
    assert "Okta" in shown.text
    assert "Entra" in shown.text
    headers = {"Authorization": f"Bearer {secret}"}
    assert service.client.get("/gateway/nginx", headers=headers).status_code == 200

    again = visitor.send(PATH, fields)
    assert (again.status_code, secrets_in(again.text)) == (409, set())
    assert not secrets_in(visitor.see(PATH).text)
    assert secret not in service.log.read_text()
    rows = service.query("SELECT convert_from(state, 'UTF8') FROM ledger.events")
    assert not any(secret in state for (state,) in rows)


def test_it_ends_with_the_day_that_is_given(visitor: Visitor, team: UUID) -> None:
    last = (datetime.now(UTC) + timedelta(days=10)).date()
    assert visitor.send(PATH, filled(visitor, team, expires_at=last.isoformat())).status_code == 200
    page = visitor.see("/console/tokens", team=str(team)).text
    assert (last + timedelta(days=1)).strftime("%Y-%m-%d 00:00:00 UTC") in page


@pytest.mark.parametrize(
    ("fields", "told"),
    by_turns(
        [
            ({"name": ""}, "must be"),
            ({"name": "x" * 256}, "must be"),
            ({"team_id": "acme"}, "must be a UUID"),
            ({"team_id": ""}, "is required"),
            ({"expires_at": "2020-01-01"}, "must be in the future"),
            ({"expires_at": "soon"}, "must be a day"),
            ({"expires_at": "9999-12-31"}, "must be a day"),
            ({"reason": "x" * 201}, "must be"),
        ],
        one_of=3,
    ),
)
def test_a_mistake_is_told_beside_its_field_and_the_rest_stays(
    visitor: Visitor, team: UUID, fields: dict[str, str], told: str
) -> None:
    answer = visitor.send(PATH, {**filled(visitor, team, reason="kept words"), **fields})
    assert answer.status_code == 400
    (field,) = fields
    assert f'id="{field}-about" role="alert">{told}' in answer.text
    if field != "reason":
        assert 'value="kept words"' in answer.text


def test_a_policy_s_no_is_told_beside_its_field(service: RunningService, team: UUID) -> None:
    admin = service.api_token()
    rules: dict[str, Any] = {"expiry_required": True}
    service.client.put(f"/policy/{team}", json=rules, auth=admin)
    with Visitor(service.url) as visiting:
        visiting.sign_in(admin.secret)
        answer = visiting.send(PATH, filled(visiting, team))
        assert answer.status_code == 400
        assert 'id="expires_at-about" role="alert"' in answer.text


def test_a_foreign_team_is_none_and_one_s_own_are_there_to_choose(
    service: RunningService, team: UUID
) -> None:
    writer = service.api_token(Permission.SCIM_TOKENS_WRITE, teams=[team])
    with Visitor(service.url) as visiting:
        visiting.sign_in(writer.secret)
        assert f"<option>{team}</option>" in visiting.see(PATH).text
        answer = visiting.send(PATH, filled(visiting, uuid4()))
        assert answer.status_code == 400
        assert not secrets_in(answer.text)
