"""The trail in sentences: filters, pages, exports, and a link that a colleague opens."""

import re
from html import unescape
from uuid import UUID, uuid4

import pytest

from api.console.pages.audit import WHAT
from api.console.sentences import HAPPENED, NOTE_MAX, NOTE_REPEATS, label, sentence
from domain.api_token.permissions import Permission
from domain.event import Event
from domain.scim_token.events import NetworksSet
from projections.audit_trail.view import KINDS, event_of, row_of
from projections.projection import LogEntry
from tests.console.browsing import Visitor, assert_guarded
from tests.console.test_tokens import create
from tests.domain.eventstore.test_event_registry import MEANT
from tests.domain.scenario import ADA, T1
from tests.service import Caller, RunningService
from tests.turns import by_turns

PATH = "/console/audit"
_TOLD = re.compile(r"<li><time.*?</time><span>(.*?)</span></li>", re.DOTALL)
_LINK = re.compile(r'<a [^>]*?href="([^"]+)"[^>]*>([^<]+)</a>')


def sentences(text: str) -> list[str]:
    """What the list says, as it is read."""
    return [unescape(re.sub("<[^>]+>", " ", told)).strip() for told in _TOLD.findall(text)]


def link(text: str, name: str) -> str:
    return next(unescape(address) for address, told in _LINK.findall(text) if told == name)


@pytest.fixture
def revoked(service: RunningService, admin: Caller, team: UUID) -> str:
    """A token that somebody revoked."""
    token = create(service, admin, team, "Okta")
    why = {"reason": "left the company"}
    service.client.delete(f"/scim-token/{token['id']}", auth=admin, params=why)
    return str(token["id"])


def test_it_says_who_did_what_from_where_and_why(
    visitor: Visitor, admin: Caller, revoked: str
) -> None:
    page = visitor.see(PATH, token=revoked)
    assert_guarded(page)
    last, first = sentences(page.text)
    agent = f"(python-httpx/{page.request.headers['user-agent'].partition('/')[2]})"
    by = f"by user {str(admin.user_id)[:8]} from 127.0.0.1 {agent}"
    assert last.startswith(f"Revoked {by} because “left the company”")
    assert re.match(rf"Created \([0-9a-f]{{8}}\) {re.escape(by)}", first)
    assert f'href="/console/tokens/{revoked}"' in page.text


@pytest.mark.usefixtures("revoked")
def test_filters_are_the_query_string(visitor: Visitor, team: UUID) -> None:
    found = {"team": str(team), "what": "scim_token.revoked"}
    page = visitor.see(PATH, **found)
    (told,) = sentences(page.text)
    assert told.startswith("Revoked")
    assert f'value="{team}"' in page.text
    assert '<option value="scim_token.revoked" selected>' in page.text
    for nothing in (
        {"outcome": "refused"},
        {"source": "203.0.113.0/24"},
        {"from": "2300-01-01"},
        {"to": "2000-01-01"},
        {"user": str(uuid4())},
    ):
        page = visitor.see(PATH, **found, **nothing)
        assert page.status_code == 200
        assert sentences(page.text) == []
        assert "Nothing of the kind" in page.text
    assert sentences(visitor.see(PATH, **found, source="127.0.0.1").text) == [told]


@pytest.mark.parametrize(
    ("query", "told"),
    by_turns(
        [
            ({"what": "nothing"}, "is none of the choices"),
            ({"outcome": "x"}, "is none of the choices"),
            ({"token": "x"}, "must be a UUID"),
            ({"team": "x"}, "must be a UUID"),
            ({"source": "example.com"}, "must be an address or a network"),
            ({"from": "yesterday"}, "must be a day"),
            ({"to": "1969-12-31"}, "must be a day between"),
            ({"from": "2026-02-02", "to": "2026-02-01"}, "must not be after"),
        ],
        one_of=3,
    ),
)
def test_a_mistake_is_told_beside_its_filter(
    visitor: Visitor, query: dict[str, str], told: str
) -> None:
    page = visitor.see(PATH, **query)
    assert page.status_code == 400
    assert f'-wrong">{told}' in page.text
    refused = visitor.see(f"{PATH}/export", **query)
    assert refused.status_code == 400


@pytest.mark.parametrize("before", by_turns(["x", "-1", "9" * 19, "9" * 30, "\u0661"], one_of=3))
def test_a_place_that_is_none_is_refused(visitor: Visitor, before: str) -> None:
    assert visitor.see(PATH, before=before).status_code == 400


def test_pages_are_whole_and_a_colleague_sees_the_same_rows(
    service: RunningService, visitor: Visitor, admin: Caller, team: UUID
) -> None:
    for number in range(30):
        create(service, admin, team, f"n{number}")
    first = visitor.see(PATH, team=str(team)).text
    second = visitor.see(link(first, "Older")).text
    assert (len(sentences(first)), len(sentences(second))) == (25, 5)
    assert set(sentences(first)).isdisjoint(sentences(second))
    pinned = link(first, "Link to these rows, for a colleague")
    create(service, admin, team, "later")
    colleague = service.api_token(Permission.AUDIT_READ, teams=[team])
    with Visitor(service.url) as visiting:
        visiting.sign_in(colleague.secret)
        assert sentences(visiting.see(pinned).text) == sentences(visitor.see(pinned).text)
        assert sentences(visiting.see(pinned).text) == sentences(first)
    assert link(second, "Newest") == f"{PATH}?team={team}"


@pytest.mark.parametrize("format_", ["csv", "ndjson"])
def test_what_is_shown_can_be_taken_along(
    visitor: Visitor, team: UUID, revoked: str, format_: str
) -> None:
    page = visitor.see(PATH, team=str(team))
    name = {"csv": "Export CSV", "ndjson": "NDJSON"}[format_]
    file = visitor.see(link(page.text, name))
    assert file.status_code == 200
    assert f'filename="audit.{format_}"' in file.headers["content-disposition"]
    assert file.text.count(revoked) == len(sentences(page.text)) == 2


def test_a_page_stays_small_whatever_is_in_it(
    service: RunningService, visitor: Visitor, admin: Caller, team: UUID
) -> None:
    headers = {"User-Agent": "<&>'\"" * 40}
    for _ in range(25):
        body = {"team_id": str(team), "name": "x", "reason": "<'&\">" * 40}
        made = service.client.post("/scim-token", auth=admin, json=body, headers=headers)
        assert made.status_code == 201
    page = visitor.see(PATH, team=str(team))
    assert len(sentences(page.text)) == 25
    assert len(page.content) <= 40 * 1024
    assert "<'&" not in page.text


def test_every_kind_has_words_of_its_own() -> None:
    assert HAPPENED.keys() == KINDS
    assert NOTE_REPEATS <= KINDS
    labels = [label(kind) for kind in KINDS]
    assert len(set(labels)) == len(labels), "two choices of the filter would look the same"
    assert all(each[0].isupper() for each in labels)
    assert WHAT.keys() == {"", *KINDS}


@pytest.mark.parametrize("event", MEANT.values(), ids=MEANT)
def test_a_note_is_told_unless_the_sentence_says_it_already(event: Event) -> None:
    """Of every event that was ever stored."""
    some_id = UUID(int=1)
    entry = LogEntry(1, some_id, 1, event.topic, T1, some_id, b"", some_id)
    fact = event_of(row_of(entry, event))
    told = sentence(fact)
    assert told.startswith(HAPPENED[fact.kind])
    if fact.note is not None and fact.kind not in NOTE_REPEATS:
        assert told.endswith(f": {fact.note}")


@pytest.mark.parametrize("count", [1, 10, 200])
def test_of_a_long_note_the_beginning_is_told(count: int) -> None:
    event = NetworksSet(ADA, tuple(f"2001:db8:{number:x}::/48" for number in range(count)))
    some_id = UUID(int=1)
    entry = LogEntry(1, some_id, 1, event.topic, T1, some_id, b"", some_id)
    told = sentence(event_of(row_of(entry, event)))
    happened, _, note = told.partition(": ")
    assert happened.startswith("Networks set by user")
    assert note.startswith("2001:db8:0::/48")
    assert len(note) <= NOTE_MAX
    assert note.endswith("…") == (count == 200)
