"""Many revocations at once: the dry run shows which, the word revokes those and no others."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from tests.console.browsing import Visitor, hidden
from tests.console.test_tokens import create, names, present
from tests.service import Caller, RunningService
from tests.turns import by_turns

PATH = "/console/tokens/revoke"


@pytest.fixture
def tokens(service: RunningService, admin: Caller, team: UUID) -> list[str]:
    """The ids of three tokens: a and b unused, c used."""
    made = [create(service, admin, team, name) for name in "abc"]
    present(service, made[2]["token"])
    return [each["id"] for each in made]


def test_the_chosen_ones_are_shown_first_and_revoked_on_a_word(
    visitor: Visitor, team: UUID, tokens: list[str]
) -> None:
    look = visitor.client.get(PATH, params={"ids": tokens[:2]})
    assert "2 tokens would be revoked" in look.text
    assert names(look) == ["b", "a"]
    assert "more." not in look.text
    assert names(visitor.see("/console/tokens", team=str(team))) == ["c", "b", "a"]

    fields = {**hidden(look), "reason": "clean-up"}
    done = visitor.send(PATH, fields)
    assert "2 tokens revoked" in done.text
    assert names(visitor.see("/console/tokens", team=str(team))) == ["c"]
    assert "2 tokens revoked" in visitor.send(PATH, fields).text, "sent again it tells the same"
    assert "because “clean-up”" in visitor.see(f"/console/tokens/{tokens[0]}").text


def test_a_form_that_is_changed_and_sent_again_is_told_in_words_of_its_own(
    visitor: Visitor, team: UUID, tokens: list[str]
) -> None:
    fields = {**hidden(visitor.client.get(PATH, params={"ids": tokens[:2]})), "reason": "one"}
    visitor.send(PATH, fields)
    again = visitor.send(PATH, fields | {"reason": "another"})
    assert again.status_code == 422
    assert "<h1>This form was sent before</h1>" in again.text
    assert "Idempotency" not in again.text
    assert names(visitor.see("/console/tokens", team=str(team))) == ["c"]


@pytest.mark.parametrize("reason", ["x" * 201, "a\0b"], ids=["too long", "not text"])
def test_a_reason_that_cannot_be_kept_is_told_and_none_is_revoked(
    visitor: Visitor, team: UUID, tokens: list[str], reason: str
) -> None:
    fields = hidden(visitor.client.get(PATH, params={"ids": tokens}))
    told = visitor.send(PATH, {**fields, "reason": reason})
    assert told.status_code == 400
    assert "The reason must" in told.text
    assert names(visitor.see("/console/tokens", team=str(team))) == ["c", "b", "a"]


def test_one_that_is_used_meanwhile_is_left_alone(
    service: RunningService, admin: Caller, visitor: Visitor, team: UUID
) -> None:
    made = create(service, admin, team, "busy")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    look = visitor.see(PATH, team=str(team), created_before=tomorrow)
    assert "1 token would be revoked" in look.text
    fields = {**hidden(look), "unused_since": datetime.now(UTC).isoformat(timespec="milliseconds")}
    present(service, made["token"])
    assert "0 tokens revoked" in visitor.send(PATH, fields).text
    present(service, made["token"])


@pytest.mark.parametrize("before", ["", "8999-12-31"], ids=["any day", "a day to come"])
def test_one_that_is_made_after_the_look_is_left_alone(
    service: RunningService, admin: Caller, visitor: Visitor, team: UUID, before: str
) -> None:
    """Nobody saw it among those that would be revoked."""
    create(service, admin, team, "there before")
    look = visitor.see(PATH, team=str(team), created_before=before)
    assert "1 token would be revoked" in look.text
    made = create(service, admin, team, "made meanwhile")
    assert "1 token revoked" in visitor.send(PATH, hidden(look)).text
    present(service, made["token"])


@pytest.mark.parametrize(
    "query",
    by_turns(
        [
            {"team": "x"},
            {"created_by": "x"},
            {"unused": "x"},
            {"created_before": "x"},
            {"ids": "x"},
        ],
        one_of=3,
    ),
)
def test_what_is_no_condition_is_told(visitor: Visitor, query: dict[str, str]) -> None:
    page = visitor.see(PATH, **query)
    assert page.status_code == 400
    assert 'class="mistake"' in page.text or 'role="alert"' in page.text or "aria-" in page.text


def test_without_a_condition_nothing_happens(visitor: Visitor) -> None:
    page = visitor.see(PATH)
    assert page.status_code == 200
    assert "would be revoked" not in page.text
    assert visitor.send(PATH, {"key": str(uuid4())}).status_code == 400


def test_of_other_teams_nothing_is_matched(
    service: RunningService, team: UUID, tokens: list[str]
) -> None:
    foreign = service.api_token(*Permission, teams=[uuid4()])
    with Visitor(service.url) as stranger:
        stranger.sign_in(foreign.secret)
        assert "No token would be revoked" in stranger.client.get(PATH, params={"ids": tokens}).text
        assert "No token would be revoked" in stranger.see(PATH, team=str(team)).text
        fields = {"key": str(uuid4()), "ids": ",".join(tokens), "conditions": "ids"}
        assert "0 tokens revoked" in stranger.send(PATH, fields).text
    admin = service.api_token()
    assert service.client.get(f"/scim-token/{tokens[0]}", auth=admin).status_code == 200
