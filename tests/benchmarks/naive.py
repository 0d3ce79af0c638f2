"""The obvious way, for comparison: the library's own application, one load,
decision and save per request.

An ASGI factory as those of `floors`, and what seeds its database. The stock PostgreSQL persistence;
a secret leads to its aggregate by a UUID of its own, which spares this way the look-up of a digest.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import NAMESPACE_OID, UUID, uuid5

from anyio import to_thread
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError
from litestar import Litestar, Request, Response, get
from psycopg.conninfo import conninfo_to_dict

from domain.secret import Secret, parse
from tests.benchmarks.floors import DOORS

_SEED_BATCH: Final = 1000


class Token(Aggregate):
    """A token that counts its uses."""

    def __init__(self, *, id: UUID) -> None:  # noqa: A002 - the library's name
        self._id = id
        self.is_revoked = False
        self.uses = 0

    @event("Used")
    def use(self, user_agent: str | None) -> None:  # noqa: ARG002 - it goes into the event
        """One use."""
        self.uses += 1


class Tokens(Application[UUID]):
    """The library's application, as its documentation shows it."""

    def use(self, token_id: UUID, user_agent: str | None) -> bool:
        """Load, decide, save; again when somebody else was faster.

        False for a missing or revoked token.
        """
        while True:
            with suppress(IntegrityError):
                try:
                    token: Token = self.repository.get(token_id)
                except AggregateNotFoundError:
                    return False
                if token.is_revoked:
                    return False
                token.use(user_agent)
                self.save(token)
                return True


def create_app() -> Litestar:
    """The application for a worker; its database is named by POSTGRES_* variables."""
    tokens = Tokens(os.environ)

    @get(DOORS)
    async def use(request: Request[Any, Any, Any]) -> Response[None]:
        secret = parse(request.headers["Authorization"].removeprefix("Bearer "))
        is_good = await to_thread.run_sync(
            tokens.use, _token_id(secret), request.headers.get("User-Agent")
        )
        return Response(None, status_code=204 if is_good else 401)

    return Litestar([use], openapi_config=None, logging_config=None)


def environment(conninfo: str) -> Mapping[str, str]:
    """The library's variables for a database."""
    parts = conninfo_to_dict(conninfo)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": str(parts["port"]),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": "-",
        "POSTGRES_POOL_SIZE": "40",  # a connection for each of the threads that handlers run in
    }


def seed(conninfo: str, secrets: Sequence[Secret], *, hot: Secret, hot_uses: int) -> None:
    """Store a token for each secret, and one that was used `hot_uses` times already."""
    with Tokens(environment(conninfo)) as tokens:
        new = [Token(id=_token_id(secret)) for secret in secrets]
        for start in range(0, len(new), _SEED_BATCH):
            tokens.save(*new[start : start + _SEED_BATCH])
        used = Token(id=_token_id(hot))
        for _ in range(hot_uses):
            used.use("benchmark")
        tokens.save(used)


def _token_id(secret: Secret) -> UUID:
    return uuid5(NAMESPACE_OID, secret.reveal())
