"""Reach the first of a connection string's hosts that lets us in and takes what we ask of it.

The one that a process reached last is asked first: a host that says nothing, such as a machine that
is gone, costs seconds, and once is enough. Whether it is the right one is for whoever connects to
ask, each time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg

from domain.errors import without_frames
from domain.postgres.session import each_host
from domain.postgres.trouble.unusable_reasons import TAKES_NO_WRITES, reason

T = TypeVar("T")
_last: dict[str, str] = {}
"""By connection string: that of the host which was reached last."""


def hosts_in_turn(conninfo: str) -> list[str]:
    """One connection string for each host: that of the one reached last, the others in order."""
    last = _last.get(conninfo)
    return sorted(each_host(conninfo), key=lambda host: host != last)


def remember(conninfo: str, host: str) -> None:
    """Ask one of its `hosts_in_turn` first from now on."""
    _last[conninfo] = host


def reach(conninfo: str, connect: Callable[[str], T]) -> T:
    """What `connect` makes of the first host with which it does not fail.

    connect: as it is given to psycopg. Raises psycopg.Error.
    """
    errors: list[Exception] = []
    for host in hosts_in_turn(conninfo):
        try:
            connection = connect(host)
        except psycopg.Error as error:
            errors.append(without_frames(error))
        else:
            remember(conninfo, host)
            return connection
    raise _telling(errors)


async def reach_by(deadline: float, conninfo: str, connect: Callable[[str], Awaitable[T]]) -> T:
    """The same by an instant of the running loop's clock.

    Each host has its share of the time: one that swallows everything must not use up that of the
    next. Raises TimeoutError, too.
    """
    loop = asyncio.get_running_loop()
    errors: list[Exception] = []
    hosts = hosts_in_turn(conninfo)
    for number, host in enumerate(hosts):
        share_s = (deadline - loop.time()) / (len(hosts) - number)
        try:
            async with asyncio.timeout(share_s):
                connection = await connect(host)
        except (TimeoutError, psycopg.Error) as error:
            errors.append(without_frames(error))
        else:
            remember(conninfo, host)
            return connection
    raise _telling(errors)


def _telling(errors: list[Exception]) -> Exception:
    """What to raise: that a standby answers says more than that another host does not."""
    try:
        return next((error for error in errors if reason(error) == TAKES_NO_WRITES), errors[-1])
    finally:
        errors.clear()  # what is raised has the caller's frame, which must not have it
