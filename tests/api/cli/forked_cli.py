"""The command line in a process of its own, forked from one that has imported it:
a start costs no second.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Final, NamedTuple

from api.cli import commands

_TIMEOUT_S: Final = 60


class Done(NamedTuple):
    """What a shell would see."""

    exit_code: int | None
    stdout: str
    stderr: str


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    user: int | None = None,
    stdin: bytes | None = None,
) -> Done:
    """Run `scim-ledger` with exactly these variables, to its end.

    user: whom root becomes for it, a number that no file need name. stdin: what it reads.
    """
    with tempfile.TemporaryDirectory(prefix="scim-ledger-cli-") as directory:
        streams = [Path(directory, name) for name in ("stdout", "stderr")]
        fed = None
        if stdin is not None:
            fed = str(Path(directory, "stdin"))
            Path(fed).write_bytes(stdin)
        given = (list(arguments), dict(environment), user, fed, *map(str, streams))
        child = _server().Process(target=_run, args=given)
        child.start()
        child.join(_TIMEOUT_S)
        if child.is_alive():
            child.kill()
            child.join()
        done = Done(child.exitcode, *(stream.read_text() for stream in streams))
        child.close()
        return done


def _server() -> ForkServerContext:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    return server


def _run(
    arguments: list[str],
    environment: dict[str, str],
    user: int | None,
    fed: str | None,
    *streams: str,
) -> None:
    if fed is not None:
        os.dup2(os.open(fed, os.O_RDONLY), 0)
        sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - as an interpreter opens it
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if user is not None:  # after the imports, which may come from a place that is closed to it
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["scim-ledger", *arguments]
    commands.main()
