"""The second floor: what this PostgreSQL commits here at all."""

from collections.abc import Iterator

from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import compare
from tests.benchmarks.result import Row


def postgres(bench: Bench) -> Iterator[Row]:
    """pgbench, one small insert per commit, fsync on."""
    for clients in (1, 8, 32):
        found = compare(
            bench.commits(clients=1), bench.commits(clients=clients), rounds=bench.rounds
        )
        yield Row(
            f"pgbench, one insert per commit: {clients} clients / 1",
            found.ratios,
            rate=found.row("", None).rate,
        )
