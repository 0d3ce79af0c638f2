"""The projection process: `python -m api.server.projector`, started by `scim-ledger serve`.

Follows the ledger, tells what is due of its tokens, and keeps the head file.

Reads SCIM_LEDGER_DATABASE_URL from its environment. Leaves on SIGTERM and when its lifeline ends.
"""

import argparse
import os
import select
import signal

from api.clock_and_ids import CLOCK_AND_IDS
from api.process import let_readers_leave, spare_the_collector
from api.server.heartbeat import keep_beating_aside
from api.settings import finish_rule, load
from api.telemetry.log_lines import log_without_waiting
from api.telemetry.logs import configure_logging, logging_given
from api.telemetry.pages import warnings_since
from domain.eventstore.known_head.keeper import HeadKeeper
from projections.follow.low_priority import NICE_FOLLOWING, process_gives_way
from projections.registry import PROJECTIONS
from projections.runner import Runner
from projections.scim_tokens import view as scim_tokens
from projections.warnings.thread import Telling


def main() -> None:
    """Lead or stand by until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m api.server.projector")
    parser.add_argument("--wake-fd", type=int, default=None)
    parser.add_argument("--lifeline-fd", type=int, default=None)
    parser.add_argument("--beat-fd", type=int, default=None)
    arguments = parser.parse_args()
    let_readers_leave()
    log_without_waiting()
    configure_logging(*logging_given())
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def should_stop() -> bool:
        lifeline: int | None = arguments.lifeline_fd
        # The other end of the pipe is the supervisor's alone: readable means that it has died.
        return stopping or (lifeline is not None and bool(select.select([lifeline], [], [], 0)[0]))

    process_gives_way(nice=NICE_FOLLOWING)
    conninfo = os.environ["SCIM_LEDGER_DATABASE_URL"]
    runner = Runner(conninfo, PROJECTIONS, wake_fd=arguments.wake_fd)

    def is_leading() -> bool:
        return runner.leads(scim_tokens.PROJECTION)

    settings = load()
    keeper = HeadKeeper(conninfo, settings.head_file)
    telling = Telling(
        conninfo,
        CLOCK_AND_IDS,
        is_leading=is_leading,
        finish_rule=finish_rule(settings),
        head_file=settings.head_file,
        since=warnings_since(settings.metrics_fd),
    )
    with keeper, telling:
        if arguments.beat_fd is not None:
            keep_beating_aside(
                arguments.beat_fd, goes_on=lambda: telling.goes_on() and keeper.goes_on()
            )
        spare_the_collector()
        runner.run(should_stop)


if __name__ == "__main__":
    main()
