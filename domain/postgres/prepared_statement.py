"""Prepared statements, run by libpq without a cursor: what records uses, and what is read.

A psycopg cursor costs as much per call as a whole batch of uses, and more than twice as much as a
read: it makes an object, a generator and a place among its statements for each. Same connection,
same adaptation of values where they are Python's; psycopg's own interface is free for everything
else between two calls.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from domain.postgres.cancellable_connection import Cancellable


class NotExecuted(psycopg.OperationalError):
    """The statement surely had no effect, and would have one on another connection."""


_BEFORE_IT: Final = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.IdleSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""The server's refusals that concern the connection and not the statement."""
_PLACEHOLDER: Final = re.compile(r"%%|%(?:\((\w+)\))?s")


class PreparedStatement:
    """A statement prepared on one connection at its first call.

    name: for who looks at the server; with it goes what no other statement has (`name_apart`), nor
    another try: whoever leaves before it is told that the statement is there leaves it behind.
    types: of the parameters, as OIDs; the server finds out those that are 0 or left out.
    Raises NotExecuted; psycopg.OperationalError when the connection breaks in the middle, and
    psycopg's own errors for the server's.
    """

    def __init__(
        self, connection: Cancellable, name: str, statement: str, types: Sequence[int] = ()
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._shown_as = name
        self._name = b""
        self._statement = statement.encode()
        self._types = types
        self._is_prepared = False

    def is_on(self, connection: Cancellable) -> bool:
        """Whether it is prepared on this connection."""
        return self._connection is connection

    async def __call__(
        self, parameters: Sequence[bytes | None], formats: Sequence[Format] | None = None
    ) -> PGresult:
        """Execute in a transaction of its own unless one is open; binary result.

        formats: of the parameters, binary where they are left out.
        """
        if not self._is_prepared:
            self._name = f"{self._shown_as}_{uuid4().hex}".encode()
            try:
                self._pgconn.send_prepare(self._name, self._statement, self._types)
                await self._result(ExecStatus.COMMAND_OK)
            except psycopg.OperationalError as error:
                raise NotExecuted(str(error)) from error
            self._is_prepared = True
        if formats is None:
            formats = [Format.BINARY] * len(parameters)
        self._pgconn.send_query_prepared(
            self._name, parameters, formats, result_format=Format.BINARY
        )
        try:
            return await self._result(ExecStatus.TUPLES_OK)
        except _BEFORE_IT as error:
            # As the first that came back: what ended the session in the commit comes behind the
            # rows.
            if self._connection.results == 1:
                raise NotExecuted(str(error)) from error
            raise

    async def _result(self, expected: ExecStatus) -> PGresult:
        result = await self._connection.answer()
        if result.status != expected:
            raise psycopg.errors.error_from_result(result)
        return result


class PreparedReads:
    """The statements that one connection is asked, values and rows being Python's.

    Each is prepared once for the types of its parameters, and kept for as long as the connection.
    """

    def __init__(self, connection: Cancellable) -> None:
        self._connection = connection
        self._prepared: dict[tuple[str, tuple[int, ...]], PreparedStatement] = {}

    def __len__(self) -> int:
        return len(self._prepared)

    async def rows(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[TupleRow]:
        """The rows of a statement, with parameters as psycopg writes and takes them."""
        numbered, names = _numbered(statement)
        values = [parameters[name] for name in names]  # type: ignore[index]
        adapter = Transformer(self._connection)
        encoded = adapter.dump_sequence(values, [PyFormat.AUTO] * len(values))
        types = adapter.types or ()
        prepared = self._prepared.get((statement, types))
        if prepared is None:
            name = f"read_{len(self._prepared)}"
            prepared = PreparedStatement(self._connection, name, numbered, types)
            self._prepared[statement, types] = prepared
        result = await prepared(encoded, adapter.formats)  # type: ignore[arg-type]
        adapter.set_pgresult(result, format=Format.BINARY)
        return adapter.load_rows(0, result.ntuples, tuple)


@lru_cache(maxsize=512)
def _numbered(statement: str) -> tuple[str, Sequence[int | str]]:
    """A statement with psycopg's placeholders, `%s` or `%(name)s`, as the server reads it;
    and which parameter is which.
    """
    names: list[int | str] = []

    def number(placeholder: re.Match[str]) -> str:
        if placeholder[0] == "%%":
            return "%"
        name = placeholder[1] or len(names)
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PLACEHOLDER.sub(number, statement), names
