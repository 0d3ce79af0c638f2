"""`python -m tests.benchmarks [SECTION ...]`: a table of ratios.

A missed target is told, not a failure.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.benchmarks import result, wrk
from tests.benchmarks.bench import Bench
from tests.benchmarks.result import Row
from tests.benchmarks.sections import SECTIONS
from tests.benchmarks.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections that are named, or all of them."""
    arguments = _parser().parse_args(argv)
    if not wrk.is_installed():
        print(wrk.INSTALL, file=sys.stderr)
        return 2
    # end what was started, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rows: dict[str, list[Row]] = {}
    with _bench(arguments) as bench:
        print(result.header(), flush=True)
        for name in arguments.sections or SECTIONS:
            rows[name] = []
            for row in SECTIONS[name](bench):
                print(result.line(row), flush=True)
                rows[name].append(row)
    missed = [row for found in rows.values() for row in found if row.verdict == "missed"]
    print(f"{len(missed)} targets missed")
    if arguments.json is not None:
        arguments.json.write_bytes(
            msgspec.json.format(msgspec.json.encode(_report(arguments, rows)))
        )
    return 0


@contextmanager
def _bench(arguments: argparse.Namespace) -> Iterator[Bench]:
    # As root the server runs as somebody else, who has to get through to its data.
    work = Path(tempfile.mkdtemp(prefix="scim-ledger-benchmarks-", dir="/tmp"))
    work.chmod(0o711)
    store = Store(work / "store")
    try:
        with store.running():
            yield Bench(
                work=work,
                store=store,
                seconds=arguments.seconds,
                rounds=arguments.rounds,
                tokens=arguments.tokens,
                is_large=arguments.large,
            )
    finally:
        if arguments.keep_logs is not None:
            arguments.keep_logs.mkdir(parents=True, exist_ok=True)
            for log in work.glob("*.log"):
                shutil.copy(log, arguments.keep_logs)
        shutil.rmtree(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all of them"
    )
    parser.add_argument("--seconds", type=int, default=3, help="length of a slice (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="slices of each side (%(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=1_000_000, help="in the big ledger (%(default)s)"
    )
    parser.add_argument(
        "--large", action="store_true", help="ten events for each of its tokens; takes minutes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--keep-logs", type=Path, metavar="DIRECTORY", help="what the servers said")
    return parser


def _report(arguments: argparse.Namespace, rows: dict[str, list[Row]]) -> dict[str, object]:
    return {
        "at": datetime.now(UTC),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "tokens": arguments.tokens,
        "sections": {name: [result.as_dict(row) for row in found] for name, found in rows.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
