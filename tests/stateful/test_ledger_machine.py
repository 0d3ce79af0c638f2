"""The ledger against a plain model: whatever is done to it, in whatever order, the promises hold.

The model is a dictionary and the rules of the contract in a dozen lines; the ledger is the real
one, on a real database, closed and reopened, its views rebuilt and fed twice, its clock moved both
ways.
"""

import asyncio
import json
import os
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from litestar.testing import TestClient
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from api.app import build
from api.edge import Edge
from api.settings import Settings
from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import CommandKey, NewApiToken, NewScimToken, ScimTokenChange
from domain.errors import (
    CommandIdReused,
    InvalidValue,
    NetworkNotAllowed,
    NoRotationUnderway,
    NotFound,
    Refusal,
    RotatedTooSoon,
    RotationUnderway,
    SecretAlreadyShown,
    TokenExpired,
    TokenRefused,
    TokenRevoked,
    TokenSuspended,
    TokenUnknown,
)
from domain.eventstore.event_registry import REGISTRY
from domain.ledger import TokenLedger
from domain.scim_token import changes
from domain.scim_token.events import Changed, Presentation, RotationFinished, Used
from domain.scim_token.token import ScimToken
from domain.secret import ENTROPY_BYTES, Pepper, Secret, SecretKind, mint, parse
from projections.described import rfc3339
from projections.follow import read_log
from projections.follow.apply import BatchApplier
from projections.follow.positions import all_positions
from projections.follow.view_version import PositionMoved, ViewVersion
from projections.rebuild.run import rebuild
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.scim_tokens.filters import TokenFilter
from projections.scim_tokens.queries import TokenQueries
from projections.scim_tokens.view import PROJECTION as SCIM_TOKENS
from projections.warnings.teller import Teller
from tests.conftest import Database, new_database
from tests.domain.eventstore.consistency import assert_consistent
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import T0
from tests.patience import patient
from tests.service import PEPPER_KEY
from tests.stateful import knocking

__all__ = ["patient"]

T = TypeVar("T")
TEAMS: Final = tuple(UUID(int=number) for number in range(1, 4))
USERS: Final = tuple(Operator(UUID(int=number)) for number in range(11, 13))
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
WAYS: Final = tuple(
    Presentation(door=door, source=source)
    for door, source in (("scim", None), *(("nginx", source) for source in knocking.SOURCES))
)
OFFICE, CLOUD = "192.0.2.0/24", "2001:db8::/32"
NETWORKS: Final = ((OFFICE,), (CLOUD, OFFICE), ("198.51.100.7/32",), ())
STATUSES: Final = ("active", "suspended", "revoked", "expired", "all")
STEPS: Final = st.sampled_from(
    [timedelta(milliseconds=1), timedelta(seconds=30), timedelta(minutes=10), timedelta(hours=2)]
)


@dataclass
class ModelToken:
    """What the contract says of one token. ends: by secret, when its own overlap is over.

    over: the secrets whose overlap was over when the token was rotated again: of these, nothing
    else counts. used: by secret, its uses. rotating: the older secret of a rotation until it is on
    record that it has ended. was_restricted: whether there are networks, or ever were.
    """

    id: UUID
    team: UUID
    user: UUID
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    ends: dict[str, datetime | None] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    last_used_at: datetime | None = None
    rotated_at: datetime | None = None
    suspended_at: datetime | None = None
    revoked_at: datetime | None = None
    uses: int = 0
    name: str = "Okta"
    used: dict[str, list[datetime]] = field(default_factory=dict)
    rotating: str | None = None
    networks: tuple[str, ...] = ()
    was_restricted: bool = False

    def use(self, secret: str, at: datetime) -> None:
        """Somebody was let in."""
        self.used.setdefault(secret, []).append(at)
        self.last_used_at = at
        self.uses += 1

    def refusal(self, secret: str, source: str | None, at: datetime) -> type[TokenRefused] | None:
        """Why a secret is refused at an instant; None when it is let in."""
        if secret in self.over:
            return TokenExpired
        if self.revoked_at is not None:
            return TokenRevoked
        if self._has_ended(secret, at):
            return TokenExpired
        if self.suspended_at is not None:
            return TokenSuspended
        return NetworkNotAllowed if self._is_elsewhere(source) else None

    def _is_elsewhere(self, source: str | None) -> bool:
        networks = map(ip_network, self.networks)
        return bool(self.networks) and (
            source is None or not any(ip_address(source) in network for network in networks)
        )

    def refusals(
        self, secret: str, source: str | None, at: datetime
    ) -> tuple[type[TokenRefused], ...]:
        """The reasons that may be told: why not is remembered for up to a minute, so of a secret
        that had ended and was suspended since, or was resumed since, either is; and of a token
        that had networks, that it came from elsewhere.
        """
        refusal = self.refusal(secret, source, at)
        assert refusal is not None
        if refusal is TokenRevoked:
            return (refusal,)
        possible = {refusal}
        if secret not in self.over and self._has_ended(secret, at):
            possible |= {TokenExpired, TokenSuspended}
        if self.was_restricted:
            possible |= {TokenSuspended, NetworkNotAllowed}
        return tuple(possible)

    def _has_ended(self, secret: str, at: datetime) -> bool:
        ends = (end for end in (self.expires_at, self.ends[secret]) if end is not None)
        return any(end <= at for end in ends)

    def refusal_to_rotate(self, overlap: timedelta, at: datetime) -> type[Refusal] | None:
        """Why a third good secret, or one right after another, is not to be had."""
        if self.rotated_at is not None and at < self.rotated_at + timedelta(seconds=10):
            return RotatedTooSoon
        good = [end for end in self.ends.values() if end is None or at < end]
        return RotationUnderway if overlap and len(good) > 1 else None

    def outgoing(self, at: datetime) -> str | None:
        """The older of two secrets that are good but for a suspension."""
        is_over = self.expires_at is not None and self.expires_at <= at
        if self.revoked_at is not None or is_over or self.ends[[*self.ends][-1]] is not None:
            return None
        good = (text for text, end in self.ends.items() if end is not None and at < end)
        return next(good, None)

    def has_ended(self, at: datetime) -> bool:
        """Whether the overlap of a rotation is over, and nobody said so yet."""
        if self.rotating is None:
            return False
        end = self.ends[self.rotating]
        return any(each is not None and each <= at for each in (end, self.expires_at))

    def has_finished(self, at: datetime) -> bool:
        """Whether a rotation has finished by itself, and nobody said so yet.

        Its overlap is over, or a client has moved to the newer secret for sure: two hours after
        the last use of the older one and the last change, from the next whole hour on.
        """
        if self.rotating is None or self.revoked_at is not None:
            return False
        if self.has_ended(at):
            return True
        silent_since = max([self.updated_at, *self.used.get(self.rotating, [])])
        after = T0 + -((T0 - silent_since - 2 * HOUR) // HOUR) * HOUR
        again = [each for each in self.used.get([*self.ends][-1], []) if each >= after]
        return self.suspended_at is None and bool(again) and again[-1] - again[0] >= 45 * MINUTE

    def document(self) -> dict[str, object]:
        """As the API shows it, but for a rotation."""
        instants = {
            "expires_at": self.expires_at,
            "rotated_at": self.rotated_at,
            "suspended_at": self.suspended_at,
            "revoked_at": self.revoked_at,
        }
        optional: dict[str, object] = {
            name: rfc3339(at) for name, at in instants.items() if at is not None
        }
        return optional | {
            "id": str(self.id),
            "team_id": str(self.team),
            "name": self.name,
            "created_by": str(self.user),
            "last_used_at": None if self.last_used_at is None else rfc3339(self.last_used_at),
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
        }


def _without_rotation(documents: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(documents)
    return [{name: each[name] for name in each if name != "rotation"} for each in found]


@dataclass(frozen=True)
class Known:
    """A command that was carried out with a key."""

    key: CommandKey
    token_id: UUID
    at: datetime
    repeat: Callable[[TokenLedger, CommandKey], Coroutine[Any, Any, object]]


class LedgerMachine(RuleBasedStateMachine):
    """Rules do; invariants compare."""

    server: ClassVar[str]
    secrets: Bundle[tuple[UUID, Secret]] = Bundle("secrets")
    keys: Bundle[Known] = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[UUID, ModelToken] = {}
        self.newest = T0  # ledger time: of the last event
        self.clock = HandClock(T0)
        self.revealed: set[str] = set()
        self.stack = ExitStack()
        self.database: Database = self.stack.enter_context(new_database(self.server))
        believing_any_clock(self.database)
        self._owner = self.stack.enter_context(
            psycopg.connect(self.database.owner, autocommit=True)
        )
        self._app = self.stack.enter_context(psycopg.connect(self.database.app, autocommit=True))
        self._loop = asyncio.new_event_loop()
        self.stack.callback(self._loop.close)
        self._steps = 0
        self._touched: UUID | None = None
        self.ledger = self.open()
        self.teller = Teller(self.database.app, self.clock.clock_and_ids)
        ask = NewApiToken(uuid4(), None, (Permission.SCIM_TOKENS_READ,), None)
        _, self.caller = self.do(self.ledger.create_api_token(ask))
        self._serving = self.stack.enter_context(ExitStack())
        self.client = self.serve()

    def catch_up_views(self) -> None:
        Runner(self.database.app, PROJECTIONS).catch_up(self._app)

    def open(self) -> TokenLedger:
        return TokenLedger(
            self.database.app,
            pepper=Pepper([PEPPER_KEY.encode()]),
            clock_and_ids=self.clock.clock_and_ids,
        )

    def serve(self) -> "TestClient[Edge]":
        """The service of one process, on the machine's clock."""
        told = Settings(
            database_url=self.database.app,
            pepper=PEPPER_KEY,
            rate_per_token=0,
            rate_per_source=0,
        )
        return self._serving.enter_context(
            TestClient(build(told, clock_and_ids=self.clock.clock_and_ids))
        )

    def do(self, ask: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(ask)

    def teardown(self) -> None:
        try:
            self.do(
                self._compare_reads(
                    self.model, [(team, status) for team in (None, *TEAMS) for status in STATUSES]
                )
            )
        finally:
            self.do(self.teller.aclose())
            self.do(self.ledger.aclose())
            self.stack.close()

    @property
    def at(self) -> datetime:
        """The instant that the next decision is made at: ledger time never goes back."""
        return max(self.clock.now, self.newest)

    def recorded(self) -> datetime:
        """Something was recorded: ledger time has moved to here."""
        self.newest = self.at
        return self.newest

    def touch(self, token_id: UUID) -> ModelToken:
        """The model of a token that the step is about."""
        self._touched = token_id
        return self.model[token_id]

    # --- commands
    # ------------------------------------------------------------------------------------------

    @initialize(target=secrets)
    def first(self) -> tuple[UUID, Secret]:
        return self._create(TEAMS[0], USERS[0], None, None)

    @rule(
        target=secrets,
        team=st.sampled_from(TEAMS),
        user=st.sampled_from(USERS),
        lifetime=st.none() | STEPS,
    )
    def create(self, team: UUID, user: Operator, lifetime: timedelta | None) -> tuple[UUID, Secret]:
        return self._create(team, user, lifetime, None)

    @rule(target=keys, team=st.sampled_from(TEAMS), user=st.sampled_from(USERS))
    def create_with_a_key(self, team: UUID, user: Operator) -> Known:
        key = CommandKey(uuid4(), b"create")
        token_id, _ = self._create(team, user, None, key)

        def repeat(ledger: TokenLedger, again: CommandKey) -> Coroutine[Any, Any, object]:
            return ledger.create_scim_token(NewScimToken(team, "Okta"), by=user, key=again)

        return Known(key, token_id, self.newest, repeat)

    @rule(team=st.sampled_from(TEAMS))
    def create_expired(self, team: UUID) -> None:
        with pytest.raises(InvalidValue):
            self.do(self.ledger.create_scim_token(NewScimToken(team, "Okta", self.at), by=USERS[0]))

    def _create(
        self, team: UUID, user: Operator, lifetime: timedelta | None, key: CommandKey | None
    ) -> tuple[UUID, Secret]:
        expires_at = None if lifetime is None else self.at + lifetime
        ask = NewScimToken(team, "Okta", expires_at)
        token, secret = self.do(self.ledger.create_scim_token(ask, by=user, key=key))
        at = self.recorded()
        assert token.id not in self.model
        assert user.user_id is not None
        self.model[token.id] = ModelToken(
            token.id, team, user.user_id, at, at, expires_at, {secret.reveal(): None}
        )
        self._touched = token.id
        self._is_new(secret)
        return token.id, secret

    def _is_new(self, secret: Secret) -> None:
        assert secret.reveal() not in self.revealed
        self.revealed.add(secret.reveal())

    @rule(
        target=secrets,
        held=secrets,
        overlap=st.sampled_from([timedelta(0), DAY]) | STEPS,
        has_key=st.booleans(),
    )
    def rotate(self, held: tuple[UUID, Secret], overlap: timedelta, *, has_key: bool) -> Any:
        token = self.touch(held[0])
        key = CommandKey(uuid4(), b"rotate") if has_key else None
        ask = self.ledger.rotate_scim_token(token.id, overlap=overlap, by=USERS[1], key=key)
        if token.revoked_at is not None:
            with pytest.raises(NotFound):
                self.do(ask)
            return multiple()
        if token.expires_at is not None and token.expires_at <= self.at:
            with pytest.raises(InvalidValue):
                self.do(ask)
            return multiple()
        refusal = token.refusal_to_rotate(overlap, self.at)
        if refusal is not None:
            with pytest.raises(refusal):
                self.do(ask)
            return multiple()
        before, is_over = self.head(), token.has_ended(self.at)
        state, secret = self.do(ask)
        at = self.recorded()
        assert self.finishes_since(before) == ([token.id] if is_over else [])
        ended = at + overlap
        (current,) = (text for text, end in token.ends.items() if end is None)
        token.rotating = current if overlap else None
        token.over |= {text for text, end in token.ends.items() if end is not None and end < at}
        token.ends = {
            text: ended if end is None else min(end, ended) for text, end in token.ends.items()
        } | {secret.reveal(): None}
        token.rotated_at = token.updated_at = at
        assert state.rotated_at == at
        self._is_new(secret)
        if key is not None:
            with pytest.raises(SecretAlreadyShown) as shown:
                self.do(
                    self.ledger.rotate_scim_token(token.id, overlap=overlap, by=USERS[1], key=key)
                )
            assert shown.value.originator_id == token.id
        return token.id, secret

    @rule(held=secrets, how=st.sampled_from(["complete", "cancel"]))
    def end_rotation(self, held: tuple[UUID, Secret], how: str) -> None:
        token = self.touch(held[0])
        ledger = self.ledger
        ask = (ledger.complete_rotation if how == "complete" else ledger.cancel_rotation)(
            token.id, by=USERS[1]
        )
        outgoing = token.outgoing(self.at)
        if outgoing is None:
            with pytest.raises(NotFound if token.revoked_at is not None else NoRotationUnderway):
                self.do(ask)
            return
        self.do(ask)
        at, token.rotating = self.recorded(), None
        if how == "complete":
            token.ends[outgoing] = at
        else:
            token.ends |= {outgoing: None, [*token.ends][-1]: at}
        token.updated_at = at

    @rule(
        held=secrets,
        name=st.sampled_from([UNSET, "Okta", "Entra"]),
        lifetime=st.sampled_from([UNSET, None]) | STEPS,
    )
    def change(
        self,
        held: tuple[UUID, Secret],
        name: str | UnsetType,
        lifetime: timedelta | UnsetType | None,
    ) -> None:
        token = self.touch(held[0])
        end = self.at + lifetime if isinstance(lifetime, timedelta) else lifetime
        ask = self.ledger.change_scim_token(token.id, ScimTokenChange(name, end), by=USERS[0])
        if token.revoked_at is not None:
            with pytest.raises(NotFound):
                self.do(ask)
            return
        if token.expires_at is not None and token.expires_at <= self.at:
            with pytest.raises(InvalidValue):
                self.do(ask)
            return
        self.do(ask)
        before = token.name, token.expires_at
        token.name = token.name if name is UNSET else name
        token.expires_at = token.expires_at if end is UNSET else end
        if before != (token.name, token.expires_at):
            token.updated_at = self.recorded()

    @rule(held=secrets)
    def move_to_the_newer_secret(self, held: tuple[UUID, Secret]) -> None:
        """Long enough that a rotation finishes by itself, where one is under way."""
        token = self.touch(held[0])
        newer = [*token.ends][-1]
        for _ in range(4):
            way = WAYS[1] if OFFICE in token.networks else WAYS[2]
            if token.refusal(newer, way.source, self.at) is not None:
                return
            self.do(self.ledger.authenticate(parse(newer), way))
            token.use(newer, self.recorded())
            self.clock.advance(HOUR)

    @rule()
    def tell_what_is_due(self) -> None:
        """As the process of the views does every two seconds: warnings, and what has finished.

        A second round finds nothing left to tell.
        """
        self.catch_up_views()
        before, at = self.head(), self.at
        self.do(self.teller.round())
        finished = [token for token in self.model.values() if token.has_finished(at)]
        assert sorted(self.finishes_since(before)) == sorted(token.id for token in finished)
        for token in map(self.touch, [token.id for token in finished]):
            older, token.rotating = token.rotating, None
            assert older is not None
            end = token.ends[older]
            token.ends[older] = at if end is None else min(end, at)
        if self.head() != before:
            self.recorded()
        self.catch_up_views()
        after = self.head()
        self.do(self.teller.round())
        assert self.head() == after

    @rule(held=secrets)
    def suspend(self, held: tuple[UUID, Secret]) -> None:
        token = self.touch(held[0])
        if token.revoked_at is not None:
            with pytest.raises(NotFound):
                self.do(self.ledger.suspend_scim_token(token.id, by=USERS[0]))
            return
        self.do(self.ledger.suspend_scim_token(token.id, by=USERS[0]))
        if token.suspended_at is None:
            token.suspended_at = token.updated_at = self.recorded()

    @rule(held=secrets)
    def resume(self, held: tuple[UUID, Secret]) -> None:
        token = self.touch(held[0])
        if token.revoked_at is not None:
            with pytest.raises(NotFound):
                self.do(self.ledger.resume_scim_token(token.id, by=USERS[0]))
            return
        self.do(self.ledger.resume_scim_token(token.id, by=USERS[0]))
        if token.suspended_at is not None:
            token.suspended_at, token.updated_at = None, self.recorded()

    @rule(held=secrets, networks=st.sampled_from(NETWORKS))
    def allow(self, held: tuple[UUID, Secret], networks: tuple[str, ...]) -> None:
        """From these networks alone, or from any."""
        token, ledger = self.touch(held[0]), self.ledger
        ask = (
            ledger.allow_networks(token.id, networks, by=USERS[0])
            if networks
            else ledger.allow_any_network(token.id, by=USERS[0])
        )
        if token.revoked_at is not None:
            with pytest.raises(NotFound):
                self.do(ask)
            return
        assert self.do(ask).networks == networks
        if token.networks != networks:
            token.networks, token.was_restricted = networks, True
            self.recorded()

    @rule(held=secrets)
    def revoke(self, held: tuple[UUID, Secret]) -> None:
        token = self.touch(held[0])
        self.do(self.ledger.revoke_scim_token(token.id, by=USERS[0]))
        if token.revoked_at is None:
            token.revoked_at = token.updated_at = self.recorded()

    @rule()
    def change_a_token_that_does_not_exist(self) -> None:
        for ask in (self.ledger.revoke_scim_token, self.ledger.rotate_scim_token):
            with pytest.raises(NotFound):
                self.do(ask(uuid4(), by=USERS[0]))

    @rule(known=keys)
    def repeat_a_command(self, known: Known) -> None:
        if self.at >= known.at + DAY:  # for so long a key counts
            return
        with pytest.raises(SecretAlreadyShown) as shown:
            self.do(known.repeat(self.ledger, known.key))
        assert shown.value.originator_id == known.token_id

    @rule(known=keys)
    def reuse_a_key_for_something_else(self, known: Known) -> None:
        if self.at >= known.at + DAY:
            return
        with pytest.raises(CommandIdReused):
            self.do(known.repeat(self.ledger, CommandKey(known.key.id, b"something else")))

    # --- uses
    # ----------------------------------------------------------------------------------------------

    @rule(held=secrets, way=st.sampled_from(WAYS))
    def use(self, held: tuple[UUID, Secret], way: Presentation) -> None:
        token, at = self.touch(held[0]), self.at
        refusal = token.refusal(held[1].reveal(), way.source, at)
        if refusal is None:
            decision = self.do(self.ledger.authenticate(held[1], way))
            self.recorded()
            assert (decision.token_id, decision.team_id, decision.at) == (token.id, token.team, at)
            assert decision.use_id is not None
            token.use(held[1].reveal(), at)
            return
        before = self.head()
        with pytest.raises(token.refusals(held[1].reveal(), way.source, at)):
            self.do(self.ledger.authenticate(held[1], way))
        if self.head() != before:
            # at most one a minute is recorded; when, is the domain's own test
            self.recorded()

    @rule(held=secrets, door=st.sampled_from(knocking.ALL))
    def knock(self, held: tuple[UUID, Secret], door: knocking.Door) -> None:
        """A use through the edge: the same decision, and the identity that the door tells."""
        token, at, before = self.touch(held[0]), self.at, self.head()
        answer = door.ask(self.client, held[1], self.caller)
        used = self.uses_since(before)
        if self.head() != before:
            # a refusal, or the use of the API token that asked, may be recorded
            self.recorded()
        if token.refusal(held[1].reveal(), door.source, at) is not None:
            assert not knocking.is_let_in(answer)
            assert not used
            return
        assert knocking.is_let_in(answer)
        ((token_id, use_id, event),) = used
        # Nothing besides it, but for the use of the API token, once a minute.
        assert self.head() - before in ({1, 2} if answer.request.method == "POST" else {1})
        assert (token_id, json.loads(event)["presentation"]["door"]) == (token.id, door.name)
        assert door.told(answer) in {None, (token.team, token.id, use_id)}
        token.use(held[1].reveal(), at)

    @rule(
        held=st.lists(st.tuples(secrets, st.sampled_from(WAYS)), min_size=2, max_size=5),
    )
    def use_together(self, held: list[tuple[tuple[UUID, Secret], Presentation]]) -> None:
        """All at one instant."""
        at = self.at
        before = self.head()

        async def together() -> list[Any]:
            return await asyncio.gather(
                *(self.ledger.authenticate(secret, way) for (_, secret), way in held),
                return_exceptions=True,
            )

        outcomes = self.do(together())
        for ((token_id, secret), way), outcome in zip(held, outcomes, strict=True):
            token = self.touch(token_id)
            refusal = token.refusal(secret.reveal(), way.source, at)
            if refusal is not None:
                assert type(outcome) in token.refusals(secret.reveal(), way.source, at)
                continue
            assert not isinstance(outcome, BaseException)
            assert outcome.token_id == token_id
            token.use(secret.reveal(), at)
        if self.head() != before:
            self.recorded()

    @rule(entropy=st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
    def use_an_unknown_secret(self, entropy: bytes) -> None:
        before = self.head()
        with pytest.raises(TokenUnknown):
            self.do(self.ledger.authenticate(mint(SecretKind.SCIM_LIVE, entropy), WAYS[0]))
        assert self.head() == before

    # --- the world
    # -----------------------------------------------------------------------------------------

    @rule(step=STEPS)
    def time_passes(self, step: timedelta) -> None:
        self.clock.advance(step)

    @precondition(lambda self: self.clock.now > T0 - timedelta(hours=6))
    @rule(step=STEPS)
    def clock_jumps_back(self, step: timedelta) -> None:
        self.clock.advance(-step)

    @rule()
    def restart(self) -> None:
        self.do(self.ledger.aclose())
        self.ledger = self.open()
        self._serving.close()
        self.client = self.serve()

    @rule()
    def catch_up(self) -> None:
        self.catch_up_views()

    @rule()
    def rebuild(self) -> None:
        self.catch_up_views()
        before = self.rows()
        for projection in PROJECTIONS:
            rebuild(self._app, projection)
        assert self.rows() == before

    @rule(back=st.integers(1, 5))
    def redeliver(self, back: int) -> None:
        """A second runner that slept: it has read what was applied meanwhile."""
        self.catch_up_views()
        before = self.rows()
        (at,) = (
            position for position in all_positions(self._app) if position.name == SCIM_TOKENS.name
        )
        entries = read_log.read(self._app, after=0, limit=10_000)[-back:]
        after = entries[0].position - 1
        with pytest.raises(PositionMoved):
            BatchApplier(REGISTRY).apply(
                ViewVersion(self._app, SCIM_TOKENS, at.version), entries, after=after
            )
        assert self.rows() == before

    def head(self) -> int:
        row = self._owner.execute(
            "SELECT coalesce(max(notification_id), 0) FROM ledger.events"
        ).fetchone()
        assert row is not None
        head: int = row[0]
        return head

    def finishes_since(self, position: int) -> list[UUID]:
        """The token of each rotation that was told to have finished after a position."""
        rows = self._owner.execute(
            "SELECT originator_id FROM ledger.events WHERE notification_id > %s AND topic = %s",
            [position, RotationFinished.topic],
        ).fetchall()
        return [id_ for (id_,) in rows]

    def uses_since(self, position: int) -> list[tuple[UUID, UUID, bytes]]:
        """Token, use id and event of each use after a position."""
        return self._owner.execute(
            "SELECT originator_id, command_id, state FROM ledger.events "
            "WHERE notification_id > %s AND topic = %s ORDER BY notification_id",
            [position, Used.topic],
        ).fetchall()

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every live view, whole."""
        versions = {at.name: at.version for at in all_positions(self._owner) if at.role == "live"}
        return {
            projection.name: sorted(
                self._owner.execute(
                    f"SELECT * FROM {projection.table(versions[projection.name])}"
                ).fetchall(),
                key=repr,
            )
            for projection in PROJECTIONS
        }

    # --- what must hold after each step
    # --------------------------------------------------------------------

    @invariant()
    def states_equal_the_replay_and_the_model(self) -> None:
        states = assert_consistent(self.database)
        tokens = {id_: state for id_, state in states.items() if isinstance(state, ScimToken)}
        assert tokens.keys() == self.model.keys()
        for id_, token in self.model.items():
            state = tokens[id_]
            assert (state.last_used_at, state.uses) == (token.last_used_at, token.uses)
            assert (state.revoked_at, state.rotated_at, state.expires_at, state.updated_at) == (
                token.revoked_at,
                token.rotated_at,
                token.expires_at,
                token.updated_at,
            )
            assert state.networks == token.networks
            assert len(state.secrets) == len(token.ends.keys() - token.over)
        if self._touched is not None:
            assert self.ledger.replay(self._touched) == tokens[self._touched]

    @invariant()
    def reads_equal_the_model(self) -> None:
        """The touched token and two lists; after the last step all of them."""
        self._steps += 1
        status, team = (
            STATUSES[self._steps % len(STATUSES)],
            (None, *TEAMS)[self._steps % (1 + len(TEAMS))],
        )
        touched = () if self._touched is None else (self._touched,)
        self.do(self._compare_reads(touched, [(None, "all"), (team, status)]))
        self._touched = None

    async def _compare_reads(
        self, ids: Collection[UUID], lists: Sequence[tuple[UUID | None, str]]
    ) -> None:
        self.catch_up_views()
        queries, head = TokenQueries(self.ledger.reads), self.head()
        for id_ in ids:
            token = self.model[id_]
            found = await queries.find(id_, teams=None, ledger_head=head, at=self.at)
            told = None if found is None else json.loads(found)
            outgoing = token.outgoing(self.at)
            rotation = None if told is None else told.pop("rotation", None)
            assert (rotation is not None) == (outgoing is not None)
            if told is not None and rotation is not None:
                assert rotation["started_at"] == told["rotated_at"]
            assert told == (None if token.revoked_at is not None else token.document())
            foreign = [team for team in TEAMS if team != token.team]
            assert await queries.find(id_, teams=foreign, ledger_head=head) is None
        for team, status in lists:
            narrow = TokenFilter(None if team is None else (team,), status=status)
            listed: list[dict[str, object]] = []
            after = None
            while True:
                page = await queries.page(
                    narrow, after=after, limit=3, at=self.at, ledger_head=head
                )
                listed += _without_rotation(page.documents)
                if (after := page.next) is None:
                    break
            assert listed == self.expected(team, status)

    def expected(self, team: UUID | None, status: str) -> list[dict[str, object]]:
        """The documents of a list, newest first."""

        def status_of(token: ModelToken) -> str:
            if token.revoked_at is not None:
                return "revoked"
            return (
                "expired"
                if token.expires_at is not None and token.expires_at <= self.at
                else "active"
            )

        def is_listed(token: ModelToken) -> bool:
            if status == "suspended":
                return status_of(token) == "active" and token.suspended_at is not None
            return status in {"all", status_of(token)}

        listed = [
            token
            for token in self.model.values()
            if team in {None, token.team} and is_listed(token)
        ]
        listed.sort(key=lambda token: (token.created_at, token.id), reverse=True)
        return [token.document() for token in listed]


FAST: Final = settings(
    max_examples=3,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase is not Phase.explain],
    database=None,
)
SLOW: Final = settings(
    FAST, max_examples=int(os.environ.get("LEDGER_MACHINE_EXAMPLES", "300")), stateful_step_count=60
)


def machine_on(server: str) -> type[LedgerMachine]:
    """The machine, for the databases of one server."""
    return type("Machine", (LedgerMachine,), {"server": server})


def test_the_ledger_behaves_like_the_model(server: str) -> None:
    run_state_machine_as_test(machine_on(server), settings=FAST)


@pytest.mark.long
def test_the_ledger_behaves_like_the_model_again_and_again(server: str) -> None:
    run_state_machine_as_test(machine_on(server), settings=settings(FAST, max_examples=15))


@pytest.mark.slow
def test_the_ledger_behaves_like_the_model_for_long(server: str) -> None:
    run_state_machine_as_test(machine_on(server), settings=SLOW)


PLANTED: Final[dict[str, Callable[[LedgerMachine], None]]] = {}


def planted(bug: Callable[[LedgerMachine], None]) -> Callable[[LedgerMachine], None]:
    """Register a bug that the machine must find."""
    PLANTED[bug.__name__] = bug
    return bug


@planted
def revoked_secrets_are_let_in(machine: LedgerMachine) -> None:
    """A revoke that leaves the secret's row as it is."""
    with psycopg.connect(machine.database.owner) as owner:
        owner.execute(
            "CREATE FUNCTION ledger.planted() RETURNS trigger LANGUAGE "
            "plpgsql AS 'BEGIN RETURN old; END'"
        )
        owner.execute(
            "CREATE TRIGGER planted BEFORE UPDATE ON ledger.secrets "
            "FOR EACH ROW WHEN (new.good_until = '-infinity') EXECUTE FUNCTION ledger.planted()"
        )


@planted
def ledger_time_goes_back(machine: LedgerMachine) -> None:
    """The caller's clock as it is."""
    with psycopg.connect(machine.database.owner) as owner:
        owner.execute(
            "CREATE OR REPLACE FUNCTION ledger.ledger_time(clock timestamptz) RETURNS timestamptz "
            "LANGUAGE sql STABLE AS $$ SELECT clock $$"
        )


@planted
def a_change_brings_back_what_has_expired(machine: LedgerMachine) -> None:
    """A decision that does not ask whether the end has come."""

    def careless(token: ScimToken, **asked: Any) -> list[Changed]:
        return decided(replace(token, expires_at=None), **asked)

    decided = changes.change
    patch = pytest.MonkeyPatch()
    machine.stack.callback(patch.undo)
    patch.setattr(changes, "change", careless)


@planted
def the_end_of_a_secret_is_not_written(machine: LedgerMachine) -> None:
    """A cancel that leaves the newer secret good, a complete that leaves the older one good."""
    with psycopg.connect(machine.database.owner) as owner:
        owner.execute(
            "CREATE FUNCTION ledger.planted() RETURNS trigger LANGUAGE "
            "plpgsql AS 'BEGIN RETURN old; END'"
        )
        owner.execute(
            "CREATE TRIGGER planted BEFORE UPDATE ON ledger.secrets "
            "FOR EACH ROW WHEN (new.good_until < old.good_until AND new.good_until > '-infinity') "
            "EXECUTE FUNCTION ledger.planted()"
        )


@planted
def the_next_command_forgets_the_networks(machine: LedgerMachine) -> None:
    """A state that has lost them: the secrets are good from anywhere again."""
    with psycopg.connect(machine.database.owner) as owner:
        owner.execute(
            "CREATE FUNCTION ledger.planted() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN new.networks := NULL; RETURN new; END'"
        )
        owner.execute(
            "CREATE TRIGGER planted BEFORE UPDATE ON ledger.secrets "
            "FOR EACH ROW WHEN (old.networks IS NOT NULL) EXECUTE FUNCTION ledger.planted()"
        )


@planted
def the_view_garbles_used_tokens(machine: LedgerMachine) -> None:
    """A fold that changes more than it should."""
    with psycopg.connect(machine.database.owner) as owner:
        owner.execute(
            "CREATE FUNCTION views.planted() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN new.before_use := replace(new.before_use, 'Okta', 'Entr'); RETURN new; END $$"
        )
        owner.execute(
            "CREATE TRIGGER planted BEFORE INSERT OR UPDATE ON views.scim_tokens_v1 "
            "FOR EACH ROW WHEN (new.last_used_at IS NOT NULL) EXECUTE FUNCTION views.planted()"
        )


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED.values(), ids=PLANTED)
def test_the_machine_finds_a_planted_bug(server: str, bug: Callable[[LedgerMachine], None]) -> None:
    class Planted(LedgerMachine):
        def __init__(self) -> None:
            super().__init__()
            bug(self)

    Planted.server = server
    quick = settings(
        FAST,
        max_examples=100,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        derandomize=True,
    )
    with pytest.raises((AssertionError, pytest.fail.Exception, ExceptionGroup)):
        run_state_machine_as_test(Planted, settings=quick)
