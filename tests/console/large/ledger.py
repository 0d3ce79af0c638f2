"""Ledgers of any size that hold the same few tokens of each kind, far apart from each other."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Final
from uuid import UUID

from api.console.cookie import LOOPBACK
from api.http.cursor import Cursors
from domain.authority import Operator
from domain.commands import ScimTokenChange
from domain.eventstore.lookups.page_end import PageEnd
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.secret import Pepper, Secret
from tests.benchmarks.seed import Seeded, seed
from tests.conftest import Database, new_database, open_ledger
from tests.console.browsing import Visitor
from tests.console.test_system import live_table
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.service import PEPPER_KEY, RunningService, running_service

PATH: Final = "/console/tokens"
PEPPER: Final = Pepper([PEPPER_KEY.encode()])
EACH: Final = 60
"""Tokens of each kind: two pages and more."""
LONG_AGO: Final = timedelta(days=20)
LATELY: Final = timedelta(days=2)
_NEXT: Final = re.compile(r'<a href="([^"]*)" rel="next">')

Make = Callable[[TokenLedger, UUID, datetime], Awaitable[object]]


def _ending(days: int) -> Make:
    """An end so many days from now."""

    async def make(ledger: TokenLedger, token_id: UUID, now: datetime) -> None:
        change = ScimTokenChange(expires_at=now + timedelta(days=days))
        await ledger.change_scim_token(token_id, change, by=Operator())

    return make


KINDS: Final[Mapping[str, Make]] = {
    "suspended": lambda ledger, id_, _: ledger.suspend_scim_token(id_, by=Operator()),
    "rotating": lambda ledger, id_, _: ledger.rotate_scim_token(id_, by=Operator()),
    "revoked": lambda ledger, id_, _: ledger.revoke_scim_token(id_, by=Operator()),
    "expired": _ending(-10),
    "ending soon": _ending(5),
    "ending": _ending(20),
}
USED: Final = len(KINDS)
"""The number of one more kind: used, lately, from an address that it was never used from before."""


@dataclass(frozen=True)
class Seen:
    """A ledger of some size, and somebody who is signed in. secret: of the API token.

    paths: pages of its list, by what they are narrowed to.
    """

    service: RunningService
    visitor: Visitor
    secret: str
    paths: Mapping[str, str]

    @property
    def session(self) -> str:
        """The secret of the session."""
        return self.visitor.client.cookies[LOOPBACK]


@contextmanager
def seen(server: str, tokens: int) -> Iterator[Seen]:
    """A service on a ledger of so many tokens."""
    with new_database(server) as database:
        seeded = seed(database.owner, pepper=PEPPER, tokens=tokens, secrets=EACH * (len(KINDS) + 1))
        asyncio.run(_live(database, seeded))
        with running_service(database) as service, Visitor(service.url) as visitor:
            secret = service.api_token().secret
            visitor.sign_in(secret)
            yield Seen(service, visitor, secret, _with_next(visitor, _first_pages(service, seeded)))


async def _live(database: Database, seeded: Seeded) -> None:
    """What became of the tokens whose secrets are known, which stand evenly among all others."""
    now = datetime.now(UTC).replace(microsecond=0)
    clock = HandClock(now - LONG_AGO)
    every = len(seeded.token_ids) // len(seeded.secrets)
    by_kind: list[list[tuple[UUID, Secret]]] = [[] for _ in range(len(KINDS) + 1)]
    for number, secret in enumerate(seeded.secrets):
        by_kind[number % len(by_kind)].append((seeded.token_ids[number * every], secret))
    app = believing_any_clock(database)
    async with open_ledger(app, clock_and_ids=clock.clock_and_ids) as ledger:
        for make, tokens in zip(KINDS.values(), by_kind, strict=False):
            await asyncio.gather(*(make(ledger, token_id, now) for token_id, _ in tokens))
        for address, at in (("198.51.100.7", now - LONG_AGO), ("203.0.113.9", now - LATELY)):
            clock.now = at
            presented = Presentation("scim", source=address, user_agent="Okta SCIM Client 1.0.0")
            for _, secret in by_kind[USED]:
                await ledger.authenticate(secret, presented)


def _first_pages(service: RunningService, seeded: Seeded) -> dict[str, str]:
    """The list as it is, by each choice of each filter, and by some together."""
    table = live_table(service, "scim_tokens")
    ((at, id_, name, user),) = service.query(
        f"SELECT created_at, id, name, created_by FROM {table} WHERE id = %s",
        seeded.token_ids[len(seeded.token_ids) // 2 + 1],
    )
    cursors = Cursors(PEPPER.derived("cursor"), require_all_keys=_of_one_key)
    middle = cursors.encode(PageEnd(at, id_), scope=("console tokens", None, {}))
    queries = {
        "active": "",
        "in the middle": f"after={middle}",
        "whatever became of it": "state=all",
        "suspended": "state=suspended",
        "rotating": "state=rotating",
        "expired": "state=expired",
        "revoked": "state=revoked",
        "never used": "use=never",
        "not used for 30 days": "use=30",
        "not used for 90 days": "use=90",
        "from a new address": "use=new",
        "ending within 7 days": "ends=7",
        "ending within 30 days": "ends=30",
        "of a team": f"team={seeded.team_ids[len(seeded.team_ids) // 2]}",
        "of a name": f"name={name}",
        "of no name": "name=nobody",
        "made by somebody": f"created_by={user}",
        "suspended and never used": "state=suspended&use=never",
        "suspended, made by somebody": f"state=suspended&created_by={user}",
        "rotating, made by somebody": f"state=rotating&created_by={user}",
    }
    return {name: f"{PATH}?{query}" for name, query in queries.items()}


async def _of_one_key() -> None:
    """There is no other."""


def _with_next(visitor: Visitor, first: Mapping[str, str]) -> Mapping[str, str]:
    """And the page behind each, where there is one."""
    found = dict(first)
    for name, path in first.items():
        page = visitor.see(path)
        assert page.status_code == 200, page.text
        for older in _NEXT.findall(page.text):
            found[f"{name}, older"] = unescape(older)
    return found
