"""The trail answers what a naive filter over the events finds:
any history, any filter, any page size.

The same history is asked three ways: the trail, tokens as of an instant, and usage. After every
rebuild too.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import UNSET, UnsetType

from domain.api_token.permissions import Permission
from domain.commands import NewApiToken, NewScimToken, ScimTokenChange
from domain.errors import NotFound, RotatedTooSoon, RotationUnderway
from domain.event import Actor, Recorded
from domain.eventstore.event_registry import REGISTRY
from domain.ledger import TokenLedger
from domain.scim_token.events import Created, Presentation, Refused, Used
from domain.scim_token.fold import evolve
from domain.scim_token.token import ScimToken
from domain.secret import Secret
from projections.audit_trail import view as audit_trail
from projections.audit_trail.queries import AuditQueries
from projections.audit_trail.statement import AuditFilter, Span
from projections.rebuild.run import rebuild
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.view import document
from projections.usage import view as usage
from projections.usage.queries import UsageQueries
from tests.conftest import PEPPER, Database, catch_up, new_database
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0
from tests.patience import patient

__all__ = ["patient"]

T = TypeVar("T")
TEAMS: Final = [UUID(int=number) for number in range(1, 4)]
CLOCK_AND_IDS: Final = [None, "192.0.2.1", "192.0.2.77", "198.51.100.9", "2001:db8::1"]
NETWORKS: Final = [
    ip_network(each) for each in ("192.0.2.0/24", "192.0.2.1/32", "2001:db8::/32", "10.0.0.0/8")
]
KINDS: Final = sorted(audit_trail.KINDS)
HOUR: Final = timedelta(hours=1)

Naive = tuple[int, Recorded]


class AuditMachine(RuleBasedStateMachine):
    """One ledger, its views, and questions to both."""

    server: str
    forget_team: bool = False
    """Plants a bug: a naive filter that lets every team through must not agree with the trail."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.database: Database = self._stack.enter_context(new_database(self.server))
        believing_any_clock(self.database)
        self.clock = HandClock(T0)
        self._runner = self._stack.enter_context(asyncio.Runner())
        self.ledger: TokenLedger = self.run(self._open())
        self.callers: list[UUID] = []
        self.secrets: dict[UUID, list[Secret]] = {}
        self.instants: list[datetime] = [T0 - HOUR]

    async def _open(self) -> TokenLedger:
        return TokenLedger(self.database.app, pepper=PEPPER, clock_and_ids=self.clock.clock_and_ids)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def teardown(self) -> None:
        try:
            self._ask_by_each_filter()
        finally:
            self.run(self.ledger.aclose())
            self._stack.close()

    # What happens

    @initialize()
    def begin(self) -> None:
        """A caller for everything, and a token in use in each of two teams."""
        self.create_api_token(None)
        for team in TEAMS[:2]:
            token, secret = self.run(
                self.ledger.create_scim_token(NewScimToken(team, "Okta"), by=self.callers[0])
            )
            self.secrets[token.id] = [secret]
            self.run(
                self.ledger.authenticate(secret, Presentation("scim", source=CLOCK_AND_IDS[1]))
            )

    @rule(ms=st.sampled_from([1, 999, 61_000, 3_600_000]))
    def time_passes(self, ms: int) -> None:
        self.instants.append(self.clock.now)
        self.clock.advance(timedelta(milliseconds=ms))

    @rule(teams=st.sampled_from([None, tuple(TEAMS[:1]), tuple(TEAMS[:2])]))
    def create_api_token(self, teams: tuple[UUID, ...] | None) -> None:
        ask = NewApiToken(UUID(int=77), teams, tuple(Permission), None)
        token, _ = self.run(self.ledger.create_api_token(ask))
        self.callers.append(token.id)

    @precondition(lambda self: self.callers)
    @rule(data=st.data(), team=st.sampled_from(TEAMS))
    def create(self, data: st.DataObject, team: UUID) -> None:
        ask = NewScimToken(team, "Okta")
        try:
            token, secret = self.run(
                self.ledger.create_scim_token(ask, by=data.draw(st.sampled_from(self.callers)))
            )
        except NotFound:
            return
        self.secrets[token.id] = [secret]

    @precondition(lambda self: self.secrets)
    @rule(data=st.data(), source=st.sampled_from(CLOCK_AND_IDS), times=st.integers(1, 3))
    def use(self, data: st.DataObject, source: str | None, times: int) -> None:
        secret = data.draw(
            st.sampled_from([each for secrets in self.secrets.values() for each in secrets])
        )

        async def present() -> None:
            asked = [
                self.ledger.authenticate(secret, Presentation("scim", source=source))
                for _ in range(times)
            ]
            await asyncio.gather(*asked, return_exceptions=True)

        self.run(present())

    @precondition(lambda self: self.secrets)
    @rule(data=st.data(), overlap=st.sampled_from([timedelta(0), HOUR]))
    def rotate(self, data: st.DataObject, overlap: timedelta) -> None:
        token_id = data.draw(st.sampled_from(list(self.secrets)))
        try:
            _, secret = self.run(
                self.ledger.rotate_scim_token(
                    token_id, overlap=overlap, by=data.draw(st.sampled_from(self.callers))
                )
            )
        except (NotFound, RotatedTooSoon, RotationUnderway):
            return
        self.secrets[token_id].append(secret)

    @precondition(lambda self: self.secrets)
    @rule(
        data=st.data(),
        name=st.sampled_from([UNSET, "Okta", "Entra"]),
        lifetime=st.sampled_from([UNSET, None, timedelta(days=300), timedelta(days=400)]),
    )
    def change(
        self,
        data: st.DataObject,
        name: str | UnsetType,
        lifetime: timedelta | UnsetType | None,
    ) -> None:
        token_id = data.draw(st.sampled_from(list(self.secrets)))
        end = self.clock.now + lifetime if isinstance(lifetime, timedelta) else lifetime
        by = data.draw(st.sampled_from(self.callers))
        try:
            self.run(self.ledger.change_scim_token(token_id, ScimTokenChange(name, end), by=by))
        except NotFound:
            return

    @precondition(lambda self: self.secrets)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        token_id = data.draw(st.sampled_from(list(self.secrets)))
        try:
            self.run(
                self.ledger.revoke_scim_token(token_id, by=data.draw(st.sampled_from(self.callers)))
            )
        except NotFound:
            return

    @rule(name=st.sampled_from(["audit_trail", "usage"]))
    def rebuild(self, name: str) -> None:
        catch_up(self.database)
        projection = {"audit_trail": audit_trail.PROJECTION, "usage": usage.PROJECTION}[name]
        with psycopg.connect(self.database.app, autocommit=True) as connection:
            rebuild(connection, projection)

    # What is asked

    def _questions(self) -> st.SearchStrategy[AuditFilter]:
        """One filter or two of them: with more, nothing would be left to be wrong about."""
        instants = st.sampled_from([*self.instants, self.clock.now])
        filters: dict[str, st.SearchStrategy[Any]] = {
            "teams": st.lists(st.sampled_from(TEAMS), unique=True),
            "token_id": st.sampled_from([UUID(int=0), *self.secrets, *self.callers]),
            "user_id": st.sampled_from([UUID(int=0), UUID(int=77)]),
            "api_token_id": st.sampled_from([UUID(int=0), *self.callers]),
            "kinds": st.sets(st.sampled_from(KINDS)),
            "source": st.sampled_from(NETWORKS),
            "from_at": instants,
            "to_at": instants,
        }
        return st.sets(st.sampled_from(sorted(filters)), max_size=2).flatmap(
            lambda names: st.builds(AuditFilter, **{name: filters[name] for name in names})
        )

    @rule(data=st.data())
    def ask_the_trail(self, data: st.DataObject) -> None:
        questions = data.draw(st.lists(self._questions(), min_size=1, max_size=8))
        is_newest_first, limit = data.draw(st.booleans()), data.draw(st.integers(1, 5))
        self._compare(questions, is_newest_first=is_newest_first, limit=limit)

    def _ask_by_each_filter(self) -> None:
        """What every example ends with, whichever rules it took."""
        singles: list[AuditFilter] = [
            AuditFilter(),
            *(AuditFilter(teams=TEAMS[:count]) for count in range(4)),
            *(AuditFilter(token_id=token_id) for token_id in (*self.secrets, *self.callers)),
            *(AuditFilter(api_token_id=token_id) for token_id in self.callers),
            *(AuditFilter(kinds={kind}) for kind in KINDS),
            *(AuditFilter(source=network) for network in NETWORKS),
            *(AuditFilter(from_at=at) for at in self.instants[-3:]),
            *(AuditFilter(to_at=at) for at in self.instants[-3:]),
        ]
        self._compare(singles, is_newest_first=True, limit=100)

    def _compare(
        self, questions: Sequence[AuditFilter], *, is_newest_first: bool, limit: int
    ) -> None:
        catch_up(self.database)
        events = self._events()
        teams = {
            each.originator_id: each.event.team_id
            for _, each in events
            if isinstance(each.event, Created)
        }
        for narrow in questions:
            found = self.run(
                self._walk(narrow, events[-1][0], is_newest_first=is_newest_first, limit=limit)
            )
            asked = replace(narrow, teams=None) if self.forget_team else narrow
            naive = [
                position
                for position, each in events
                if _matches(asked, each, teams.get(each.originator_id))
            ]
            assert found == (naive[::-1] if is_newest_first else naive), narrow

    @precondition(lambda self: self.secrets)
    @rule(data=st.data())
    def ask_the_past(self, data: st.DataObject) -> None:
        catch_up(self.database)
        at = data.draw(st.sampled_from([*self.instants, self.clock.now]))
        teams = data.draw(st.one_of(st.none(), st.lists(st.sampled_from(TEAMS), unique=True)))
        expected = [
            token
            for token in self._tokens_at(at)
            if token.revoked_at is None and (teams is None or token.team_id in teams)
        ]
        expected.sort(key=lambda token: (token.created_at, token.id), reverse=True)
        queries = AsOfQueries(self.ledger.reads)
        page = self.run(
            queries.page(
                TokenFilter(teams), after=None, limit=1000, at=at, ledger_head=self._events()[-1][0]
            )
        )
        found = msgspec.json.decode(page.documents, type=list[msgspec.Raw])
        assert [bytes(each).decode() for each in found] == [_document(each) for each in expected]

    @precondition(lambda self: self.secrets)
    @rule(data=st.data())
    def ask_for_usage(self, data: st.DataObject) -> None:
        catch_up(self.database)
        token_id = data.draw(st.sampled_from(list(self.secrets)))
        start, end = T0 - HOUR, self.clock.now + HOUR
        queries = UsageQueries(self.ledger.reads)
        steps = self.run(
            queries.steps(
                token_id, from_at=start, to_at=end, step=HOUR, ledger_head=self._events()[-1][0]
            )
        )
        mine = [recorded for _, recorded in self._events() if recorded.originator_id == token_id]
        for step in steps:
            at = datetime.fromisoformat(step.at)
            inside = [each for each in mine if at <= each.at < at + HOUR]
            events = [each.event for each in inside if isinstance(each.event, Used | Refused)]
            assert step.uses == sum(event.count for event in events if isinstance(event, Used))
            assert step.refusals == sum(isinstance(event, Refused) for event in events)
            assert step.sources == len({event.presentation.source for event in events} - {None})

    async def _walk(
        self, narrow: AuditFilter, head: int, *, is_newest_first: bool, limit: int
    ) -> list[int]:
        queries, span, found = (
            AuditQueries(self.ledger.reads),
            Span(is_newest_first=is_newest_first),
            [],
        )
        while True:
            page = await queries.page(narrow, span, limit=limit, ledger_head=head)
            found += [event.position for event in page.events]
            if page.next is None:
                streamed = [
                    event.position
                    async for events in queries.stream(
                        narrow, Span(is_newest_first), limit=None, ledger_head=head
                    )
                    for event in events
                ]
                assert streamed == found
                return found
            span = Span(is_newest_first=is_newest_first, after=page.next)

    # The naive answers

    def _events(self) -> list[Naive]:
        with psycopg.connect(self.database.owner) as connection:
            rows = connection.execute(
                "SELECT notification_id, originator_id, originator_version, at, command_id, "
                "topic, state "
                "FROM ledger.events ORDER BY notification_id"
            ).fetchall()
        return [
            (row[0], Recorded(row[1], row[2], row[3], row[4], REGISTRY.decode(row[5], row[6])))
            for row in rows
        ]

    def _tokens_at(self, at: datetime) -> list[ScimToken]:
        states: dict[UUID, ScimToken] = {}
        for _, recorded in self._events():
            if recorded.originator_id in self.secrets and recorded.at <= at:
                states[recorded.originator_id] = evolve(
                    states.get(recorded.originator_id), recorded
                )
        return list(states.values())


def _matches(narrow: AuditFilter, recorded: Recorded, team: UUID | None) -> bool:
    event = recorded.event
    presentation = getattr(event, "presentation", None)
    source = None if presentation is None else presentation.source
    user_id, api_token_id = _actor(recorded)
    return (
        (narrow.teams is None or team in narrow.teams)
        and narrow.token_id in {None, recorded.originator_id}
        and narrow.user_id in {None, user_id}
        and narrow.api_token_id in {None, api_token_id}
        and (narrow.kinds is None or event.topic.removesuffix(".v1") in narrow.kinds)
        and (narrow.source is None or (source is not None and ip_address(source) in narrow.source))
        and (narrow.from_at is None or narrow.from_at <= recorded.at)
        and (narrow.to_at is None or recorded.at < narrow.to_at)
    )


def _actor(recorded: Recorded) -> tuple[UUID | None, UUID | None]:
    for name in ("created_by", "rotated_by", "changed_by", "revoked_by"):
        signed: Actor | None = getattr(recorded.event, name, None)
        if signed is not None:
            return signed.user_id, signed.api_token_id
    if recorded.event.topic.startswith("api_token."):
        return UUID(int=77), recorded.originator_id
    return None, None


def _document(token: ScimToken) -> str:
    return msgspec.json.encode(document(token)).decode()


def machine(server: str, **attributes: Any) -> type[AuditMachine]:
    return type("Machine", (AuditMachine,), {"server": server, **attributes})


def examples(count: int, steps: int, *, phases: Sequence[Phase] = tuple(Phase)) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=steps,
        phases=phases,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_the_trail_equals_a_naive_filter(server: str) -> None:
    run_state_machine_as_test(machine(server), settings=examples(2, 30))


@pytest.mark.long
def test_the_trail_equals_a_naive_filter_again_and_again(server: str) -> None:
    run_state_machine_as_test(machine(server), settings=examples(12, 30))


@pytest.mark.slow
def test_the_trail_equals_a_naive_filter_at_length(server: str) -> None:
    run_state_machine_as_test(machine(server), settings=examples(60, 60))


@pytest.mark.slow
def test_planted_a_filter_that_forgets_the_team_is_caught(server: str) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine(server, forget_team=True), settings=examples(20, 30, phases=[Phase.generate])
        )
