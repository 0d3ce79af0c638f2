"""What callers were told, and the proof that it is still so."""

from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from domain.errors import TokenRefused
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation
from domain.scim_token.token import ScimToken
from domain.secret import Secret
from projections.scim_tokens.queries import TokenQueries
from tests.conftest import Database, catch_up
from tests.domain.eventstore.consistency import assert_consistent

IDP = Presentation(door="scim")


class AcknowledgementLost(AssertionError):
    """Somebody was told of something that is no more."""


@dataclass
class Acknowledged:
    """created: secrets by token. uses: ids of recorded uses. revoked: tokens, also in `created`.

    revoking: tokens whose revocation was asked for, whether or not it was answered.
    """

    created: dict[UUID, Secret] = field(default_factory=dict)
    uses: set[UUID] = field(default_factory=set)
    revoked: set[UUID] = field(default_factory=set)
    revoking: set[UUID] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.created) + len(self.uses) + len(self.revoked)

    async def check(self, database: Database, ledger: TokenLedger) -> None:
        """Raise AcknowledgementLost unless all of it is in the ledger, in the view, and works."""
        with psycopg.connect(database.owner) as connection:
            rows = connection.execute("SELECT command_id FROM ledger.events").fetchall()
        if lost := self.uses - {id_ for (id_,) in rows}:
            raise AcknowledgementLost(f"{len(lost)} uses")
        states = assert_consistent(database)
        if lost := self.created.keys() - states.keys():
            raise AcknowledgementLost(f"{len(lost)} creations")
        over = {id_ for id_ in self.created if _is_revoked(states[id_])}
        if lost := self.revoked - over:
            raise AcknowledgementLost(f"{len(lost)} revocations")
        assert over <= self.revoking, "a token is revoked that nobody revoked"
        catch_up(database)
        queries = TokenQueries(ledger.reads)
        for id_, secret in self.created.items():
            is_readable = await queries.find(id_, teams=None, ledger_head=0) is not None
            if {is_readable, await _is_let_in(ledger, secret)} != {id_ not in over}:
                raise AcknowledgementLost("a token that can be read, or used")


async def _is_let_in(ledger: TokenLedger, secret: Secret) -> bool:
    try:
        await ledger.authenticate(secret, IDP)
    except TokenRefused:
        return False
    return True


def _is_revoked(state: object) -> bool:
    assert isinstance(state, ScimToken)
    return state.revoked_at is not None
