"""Pages: each token that exists throughout is seen exactly once; no cursor but ours is taken."""

import asyncio
import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.errors import InvalidCursor
from api.http.cursor import Cursors
from domain.eventstore.lookups.page_end import PageEnd
from domain.postgres.read_pool import ReadPool
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenQueries
from tests.api.http.cursors import CURSORS, all_there, of_every_list
from tests.conftest import Database, new_database

T0: Final = datetime(2021, 8, 10, 10, tzinfo=UTC)
INSERT: Final = """
    INSERT INTO views.scim_tokens_v1 (id, team_id, name, created_by, created_at, updated_at,
        before_use, last_use, after_use)
    VALUES (%s, %s, 'Okta', %s, %s, %s, %s, '', '')
"""
REVOKE: Final = "UPDATE views.scim_tokens_v1 SET revoked_at = now() WHERE id = %s"

places: st.SearchStrategy[PageEnd] = st.builds(
    PageEnd,
    st.integers(0, 253_402_300_799_999).map(
        lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    ),
    st.uuids(),
)


@dataclass(frozen=True)
class Meanwhile:
    """What others do between two pages.

    created: milliseconds after T0 of tokens that appear, anywhere in the order; all may be equal.
    revoked: which of the tokens made so far disappear, as indexes, taken modulo their number.
    """

    created: Sequence[int]
    revoked: Sequence[int]


instants = st.lists(st.integers(0, 3), max_size=4)
histories = st.lists(
    st.builds(Meanwhile, instants, st.lists(st.integers(0, 100), max_size=3)), max_size=4
)


class Document(msgspec.Struct):
    """What a list needs of one."""

    id: UUID
    created_at: datetime


decode: Final = msgspec.json.Decoder(list[Document]).decode


class Pages:
    """The view's rows and the reader, as a handler puts them together with the cursors."""

    def __init__(self, database: Database) -> None:
        self._conninfo = database.app
        self._rows = psycopg.connect(database.app, autocommit=True)

    def close(self) -> None:
        self._rows.close()

    def walk(
        self,
        first: Sequence[int],
        meanwhile: Sequence[Meanwhile],
        *,
        limit: int,
        forget: Callable[[PageEnd], PageEnd] = lambda place: place,
    ) -> None:
        """Page through a team's tokens while others come and go; assert the promise.

        forget: the planted bug, what a worse cursor would keep of a place.
        """
        team = uuid4()
        initial = [self._create(team, at) for at in first]
        made, gone = list(initial), set[UUID]()

        def happen(change: Meanwhile) -> None:
            made.extend(self._create(team, at) for at in change.created)
            for index in change.revoked if made else ():
                gone.add(made[index % len(made)])
                self._rows.execute(REVOKE, [made[index % len(made)]])

        seen = asyncio.run(self._walk(team, iter(meanwhile), happen, limit=limit, forget=forget))
        assert len(seen) == len(set(seen)), "no token twice"
        assert set(initial) - gone <= set(seen), "no token that stayed is missed"
        assert set(seen) <= set(made)

    async def _walk(
        self,
        team: UUID,
        changes: Iterator[Meanwhile],
        happen: Callable[[Meanwhile], None],
        *,
        limit: int,
        forget: Callable[[PageEnd], PageEnd],
    ) -> list[UUID]:
        pool = ReadPool(self._conninfo)
        try:
            return await self._seen(
                TokenQueries(pool), team, changes, happen, limit=limit, forget=forget
            )
        finally:
            await pool.close()

    async def _seen(
        self,
        queries: TokenQueries,
        team: UUID,
        changes: Iterator[Meanwhile],
        happen: Callable[[Meanwhile], None],
        *,
        limit: int,
        forget: Callable[[PageEnd], PageEnd],
    ) -> list[UUID]:
        seen = list[UUID]()
        cursor = None
        for _ in range(100):
            after = None if cursor is None else CURSORS.decode(cursor, scope=str(team))
            page = await queries.page(
                TokenFilter((team,)), after=after, limit=limit, at=T0, ledger_head=0
            )
            found = decode(page.documents)
            seen += [document.id for document in found]
            if page.next is None:
                return seen
            assert len(found) == limit
            cursor = CURSORS.encode(forget(page.next), scope=str(team))
            change = next(changes, None)
            if change is not None:
                happen(change)
        raise AssertionError("the pages do not end")

    def _create(self, team: UUID, at_ms: int) -> UUID:
        id_, at = uuid4(), T0 + timedelta(milliseconds=at_ms)
        document = msgspec.json.encode(Document(id_, at)).decode()
        self._rows.execute(INSERT, [id_, team, team, at, at, document])
        return id_


@pytest.fixture(scope="module")
def pages(server: str) -> Iterator[Pages]:
    with new_database(server) as database:
        made = Pages(database)
        yield made
        made.close()


@pytest.mark.long
@settings(max_examples=60)
@given(first=st.lists(st.integers(0, 3), max_size=10), meanwhile=histories, limit=st.integers(1, 6))
@example(first=[0] * 7, meanwhile=[Meanwhile([0] * 4, [0, 3]), Meanwhile([0] * 4, [5, 6])], limit=2)
def test_each_token_that_exists_throughout_is_seen_exactly_once(
    pages: Pages, first: list[int], meanwhile: list[Meanwhile], limit: int
) -> None:
    pages.walk(first, meanwhile, limit=limit)


@pytest.mark.parametrize("id_", [UUID(int=0), UUID(int=2**128 - 1)])
def test_planted_a_cursor_of_the_instant_alone_would_be_caught(pages: Pages, id_: UUID) -> None:
    with pytest.raises(AssertionError):
        pages.walk([0] * 6, [], limit=2, forget=lambda place: PageEnd(place.created_at, id_))


@given(place=places, scope=st.text())
def test_a_cursor_keeps_its_place(place: PageEnd, scope: str) -> None:
    text = CURSORS.encode(place, scope=scope)
    assert CURSORS.decode(text, scope=scope) == place
    assert text.isascii()
    assert set(text).isdisjoint("+/=&?#% ")


@given(text=st.text() | st.text("ABCabc019-_=", min_size=50, max_size=60))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.decode(text, scope="")


@given(place=places, where=st.integers(0), what=st.characters())
def test_a_cursor_that_was_touched_is_refused(place: PageEnd, where: int, what: str) -> None:
    text = CURSORS.encode(place, scope="")
    where %= len(text)
    for touched in (
        text[:where] + what + text[where + 1 :],
        text[:where] + what + text[where:],
        text[:where],
        text + what,
        text + "=",
        text + "\n",
    ):
        if touched != text:
            with pytest.raises(InvalidCursor):
                CURSORS.decode(touched, scope="")


@given(place=places, scopes=st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_a_cursor_is_good_for_its_own_list_only(place: PageEnd, scopes: list[str]) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.decode(CURSORS.encode(place, scope=scopes[0]), scope=scopes[1])


def test_a_cursor_is_good_in_another_process() -> None:
    """Each orders its sets in another way (PYTHONHASHSEED)."""
    ask = f"from {of_every_list.__module__} import of_every_list; print(*of_every_list())"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", ask],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.split() == of_every_list()


@given(place=places)
def test_a_cursor_of_another_deployment_is_refused(place: PageEnd) -> None:
    others = Cursors([b"o" * 32], require_all_keys=all_there)
    with pytest.raises(InvalidCursor):
        CURSORS.decode(others.encode(place, scope=""), scope="")


def test_a_cursor_without_its_signature_is_refused() -> None:
    for length in (0, 16, 24, 39, 40, 41):
        with pytest.raises(InvalidCursor):
            CURSORS.decode(urlsafe_b64encode(bytes(length)).decode().rstrip("="), scope="")
