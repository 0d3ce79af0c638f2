"""What the library builds its infrastructure from: our connections, our recorder, nothing else."""

from collections.abc import Callable
from typing import Any, Final, Never

from eventsourcing.persistence import NotSupportedError
from eventsourcing.postgres import PostgresDatastore, PostgresFactory
from psycopg import Connection
from psycopg.rows import DictRow, dict_row

from domain.eventstore.library.recorder import LedgerRecorder
from domain.postgres.connection import configure
from domain.postgres.hosts import reach
from domain.postgres.session import stated

_HOST_TIMEOUT_S: Final = 2


class Reached(Connection[DictRow]):
    """A connection of the library's pool, made to one host after the other as all of ours are."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> "Reached":
        """The pool's hook. Raises psycopg.Error."""
        connect = super().connect
        return reach(conninfo, lambda host: connect(stated(host), **kwargs))


class LedgerDatastore(PostgresDatastore):
    """The library's connection pool, which opens nothing before it is first used."""

    def after_connect_func(self) -> Callable[[Connection[Any]], None]:
        """The library's hook: what every session of ours states."""

        def after_connect(connection: Connection[Any]) -> None:
            connection.autocommit = True
            configure(connection)

        return after_connect

    def register_type_adapters(self) -> None:
        """Nothing: the composite types are those of the library's insert function,
        which we never call.

        Asking the server for them made every start wait up to 30 s for a database that was away.
        """


class LedgerFactory(PostgresFactory):
    """Builds the library's infrastructure from a connection string,
    and only what our design allows.

    env: needs `LEDGER_CONNINFO`. Table creation is off (migrations do that, under another role),
    and the library's insert function is refused: it takes no lock, and a reader that followed
    missed 82 of 17,493 committed events for good.
    """

    CONNINFO = "LEDGER_CONNINFO"

    def __init__(self, env: Any) -> None:
        if env.get("POSTGRES_ENABLE_DB_FUNCTIONS"):
            raise OSError("POSTGRES_ENABLE_DB_FUNCTIONS loses events for readers; unset it")
        env = {
            # Demanded by the base class; the connection string replaces them below.
            "POSTGRES_DBNAME": "-",
            "POSTGRES_HOST": "-",
            "POSTGRES_USER": "-",
            "POSTGRES_PASSWORD": "-",
            "POSTGRES_SCHEMA": "ledger",
            "CREATE_TABLE": "n",
            self.CONNINFO: env[self.CONNINFO],
        }
        super().__init__(env)
        self.datastore = LedgerDatastore("-", "-", "-", "-", "-", schema="ledger", max_overflow=10)
        pool = self.datastore.pool
        pool.connection_class = Reached
        pool.conninfo = env[self.CONNINFO]
        pool.kwargs = {"row_factory": dict_row, "connect_timeout": _HOST_TIMEOUT_S}

    def application_recorder(self) -> LedgerRecorder:
        """Ours, without creating anything."""
        return LedgerRecorder(self.datastore)

    def aggregate_recorder(self, purpose: str = "events") -> Never:
        """None: the state row is a snapshot that is written with the events and never stale."""
        raise NotSupportedError(f"the ledger has no second table of {purpose}")

    def tracking_recorder(self, tracking_recorder_class: Any = None) -> Never:  # noqa: ARG002
        """None: each projection moves its own position, with its rows."""
        raise NotSupportedError("the ledger keeps no position of the library's")

    def process_recorder(self) -> Never:
        """None: see `tracking_recorder`."""
        raise NotSupportedError("the ledger keeps no position of the library's")
