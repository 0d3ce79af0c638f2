"""Reads of the view `scim_tokens`: pages, filters, and never a stale answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from domain.errors import ProjectionBehind
from domain.eventstore.lookups.page_end import PageEnd
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenPage, TokenQueries
from tests.conftest import Database, Run, catch_up, open_ledger
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0
from tests.projections.follow.test_runner import running
from tests.turns import by_turns

HOUR = timedelta(hours=1)
ADA = Operator(uuid4())
TEAM, OTHER_TEAM, THIRD_TEAM = uuid4(), uuid4(), uuid4()
EVERYTHING = TokenFilter(status="all")


class Reader:
    """A ledger, its queries, and a clock; reads are at the ledger's head."""

    def __init__(self, ledger: TokenLedger, clock: HandClock, database: Database) -> None:
        self.ledger, self.clock, self.database = ledger, clock, database
        self.queries = TokenQueries(ledger.reads)

    @property
    def head(self) -> int:
        return self.ledger.recorder.max_notification_id() or 0

    async def create(
        self, team: UUID = TEAM, name: str = "Okta", *, expires_in: timedelta | None = None
    ) -> UUID:
        expires_at = None if expires_in is None else self.clock.now + expires_in
        token, _ = await self.ledger.create_scim_token(NewScimToken(team, name, expires_at), by=ADA)
        return token.id

    async def page(
        self, narrow: TokenFilter = EVERYTHING, *, after: PageEnd | None = None, limit: int = 100
    ) -> TokenPage:
        catch_up(self.database)
        return await self.queries.page(
            narrow, after=after, limit=limit, at=self.clock.now, ledger_head=self.head
        )

    async def ids(self, narrow: TokenFilter = EVERYTHING) -> list[UUID]:
        return ids(await self.page(narrow))

    async def find(self, id_: UUID, teams: list[UUID] | None = None) -> str | None:
        catch_up(self.database)
        return await self.queries.find(id_, teams=teams, ledger_head=self.head)


def ids(page: TokenPage) -> list[UUID]:
    return [UUID(document["id"]) for document in json.loads(page.documents)]


@asynccontextmanager
async def reader(database: Database) -> AsyncIterator[Reader]:
    clock = HandClock(T0)
    async with open_ledger(
        believing_any_clock(database), clock_and_ids=clock.clock_and_ids
    ) as ledger:
        yield Reader(ledger, clock, database)


class TestFind:
    def test_a_token_is_found_by_its_id(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with reader(database) as r:
                id_ = await r.create()
                document = await r.find(id_)
                assert document is not None
                assert json.loads(document)["id"] == str(id_)
                assert await r.find(id_, [OTHER_TEAM, TEAM]) == document

        run(main())

    def test_missing_foreign_and_revoked_look_the_same(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with reader(database) as r:
                id_, revoked = await r.create(), await r.create()
                await r.ledger.revoke_scim_token(revoked, by=ADA)
                assert [
                    await r.find(uuid4()),
                    await r.find(id_, [OTHER_TEAM]),
                    await r.find(id_, []),
                    await r.find(revoked),
                ] == [None] * 4

        run(main())

    def test_reads_that_arrive_together_are_answered_each_with_its_own(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with reader(database) as r:
                ids = [await r.create() for _ in range(20)]
                revoked, foreign = await r.create(), await r.create(OTHER_TEAM)
                await r.ledger.revoke_scim_token(revoked, by=ADA)
                catch_up(database)
                asked = [*ids, revoked, foreign, uuid4(), ids[0]]
                found = await asyncio.gather(
                    *(r.queries.find(id_, teams=[TEAM], ledger_head=r.head) for id_ in asked)
                )
                shown = [document and UUID(json.loads(document)["id"]) for document in found]
                assert shown == [*ids, None, None, None, ids[0]]

        run(main())

    def test_a_read_that_waits_for_the_view_holds_no_other_up(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with reader(database) as r:
                id_ = await r.create()
                catch_up(database)
                reached = r.head
                late = await r.create()
                waiting = asyncio.create_task(r.queries.find(late, teams=None, ledger_head=r.head))
                for _ in range(20):
                    await asyncio.sleep(0.001)
                    assert await r.queries.find(id_, teams=None, ledger_head=reached) is not None
                assert not waiting.done()
                catch_up(database)
                assert await waiting is not None

        run(main())


class TestPage:
    def test_a_page_is_newest_first(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with reader(database) as r:
                created = []
                for _ in range(5):
                    r.clock.advance(HOUR)
                    created.append(await r.create())
                assert await r.ids() == created[::-1]

        run(main())

    @pytest.mark.parametrize("limit", by_turns([1, 2, 3, 6, 7, 8], one_of=3))
    def test_pages_show_each_token_once_also_when_they_were_created_at_one_instant(
        self, database: Database, run: Run, limit: int
    ) -> None:
        async def main() -> None:
            async with reader(database) as r:
                created = [await r.create() for _ in range(4)]
                r.clock.advance(HOUR)
                later = [await r.create() for _ in range(3)]
                seen: list[UUID] = []
                after, pages = None, 0
                while True:
                    page = await r.page(after=after, limit=limit)
                    seen, after, pages = seen + ids(page), page.next, pages + 1
                    assert len(ids(page)) <= limit
                    if after is None:
                        break
                assert seen == sorted(later, reverse=True) + sorted(created, reverse=True)
                assert pages == -(-7 // limit), "a full last page has no next one"

        run(main())

    def test_a_token_that_exists_throughout_is_seen_once_whatever_comes_and_goes(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with reader(database) as r:
                staying, going = [], []
                for _ in range(4):
                    r.clock.advance(HOUR)
                    staying.append(await r.create())
                    going.append(await r.create())
                active = TokenFilter()
                page = await r.page(active, limit=3)
                seen = ids(page)
                while page.next is not None:
                    await r.create()
                    await r.ledger.revoke_scim_token(going.pop(), by=ADA)
                    page = await r.page(active, after=page.next, limit=3)
                    seen += ids(page)
                assert sorted(id_ for id_ in seen if id_ in staying) == sorted(staying)
                assert len(seen) == len(set(seen))

        run(main())

    def test_an_empty_view_has_one_empty_page(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with reader(database) as r:
                assert await r.page() == TokenPage("[]", None)

        run(main())

    def test_a_page_is_narrowed_by_team_and_by_name(self, database: Database, run: Run) -> None:
        async def main() -> None:
            async with reader(database) as r:
                okta = await r.create(TEAM, "Okta")
                entra = await r.create(OTHER_TEAM, "Entra %_")
                third = await r.create(THIRD_TEAM, "Okta")

                async def found(**narrow: Any) -> set[UUID]:
                    return set(await r.ids(TokenFilter(status="all", **narrow)))

                assert await found() == {okta, entra, third}
                assert await found(teams=[TEAM]) == {okta}
                assert await found(teams=[TEAM, OTHER_TEAM]) == {okta, entra}
                assert await found(teams=[]) == set()
                assert await found(name="Okta") == {okta, third}
                assert await found(name="Entra %_") == {entra}
                assert (
                    await found(name="okta")
                    == await found(name="%")
                    == await found(name="")
                    == set()
                )
                assert await found(teams=[THIRD_TEAM], name="Okta") == {third}

        run(main())

    def test_a_status_tells_active_expired_and_revoked_apart(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with reader(database) as r:
                everlasting, revoked = await r.create(), await r.create()
                expiring, later = (
                    await r.create(expires_in=HOUR),
                    await r.create(expires_in=2 * HOUR),
                )
                over_and_revoked = await r.create(expires_in=HOUR)
                for id_ in (revoked, over_and_revoked):
                    await r.ledger.revoke_scim_token(id_, by=ADA)
                r.clock.advance(HOUR)
                found = {
                    status: set(await r.ids(TokenFilter(status=status)))
                    for status in ("active", "expired", "revoked", "all")
                }
                assert found == {
                    "active": {everlasting, later},
                    "expired": {expiring},
                    "revoked": {revoked, over_and_revoked},
                    "all": {everlasting, later, expiring, revoked, over_and_revoked},
                }

        run(main())


class TestFreshness:
    def test_a_view_that_does_not_catch_up_is_not_answered_from(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with reader(database) as r:
                id_ = await r.create()
                started = asyncio.get_running_loop().time()
                with pytest.raises(ProjectionBehind):
                    await r.queries.find(id_, teams=None, ledger_head=r.head)
                assert asyncio.get_running_loop().time() - started < 3
                assert await r.queries.find(id_, teams=None, ledger_head=0) is None, (
                    "nobody waits for nothing"
                )

        run(main())

    @pytest.mark.parametrize("times", by_turns([4, 20], one_of=2))
    def test_a_writer_reads_its_own_writes(self, database: Database, run: Run, times: int) -> None:
        async def main() -> None:
            async with open_ledger(database.app) as ledger, open_ledger(database.app) as replica:
                queries = TokenQueries(replica.reads)
                for _ in range(times):
                    token, secret = await ledger.create_scim_token(
                        NewScimToken(TEAM, "Okta"), by=ADA
                    )
                    head = ledger.recorder.max_notification_id() or 0
                    assert await queries.find(token.id, teams=[TEAM], ledger_head=head) is not None
                    await ledger.authenticate(secret, Presentation(door="scim"))
                    head = ledger.recorder.max_notification_id() or 0
                    document = await queries.find(token.id, teams=[TEAM], ledger_head=head)
                    assert document is not None
                    assert json.loads(document)["last_used_at"] is not None
                    await ledger.revoke_scim_token(token.id, by=ADA)
                    head = ledger.recorder.max_notification_id() or 0
                    assert await queries.find(token.id, teams=[TEAM], ledger_head=head) is None

        with running(database):
            run(main())

    def test_a_reader_follows_the_pointer_to_another_version(
        self, database: Database, run: Run
    ) -> None:
        async def main() -> None:
            async with reader(database) as r:
                id_ = await r.create()
                assert await r.find(id_) is not None
                with psycopg.connect(database.owner) as owner:
                    owner.execute("ALTER TABLE views.scim_tokens_v1 RENAME TO scim_tokens_v2")
                    owner.execute("UPDATE ledger.projection_positions SET version = 2")
                assert await r.queries.find(id_, teams=None, ledger_head=r.head) is not None

        run(main())
