"""The command line in a process of its own, forked from one that has imported it:
a start costs no second.
"""

import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Final, NamedTuple

import api.doctor.examine  # noqa: F401 - commands import it, and the ledger, when they need it
import domain.ledger  # noqa: F401
from api.cli import commands, main

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


def run_to_the_end(
    arguments: Sequence[str], environment: Mapping[str, str], *, stdin: bytes, unread: set[str]
) -> tuple[int, bytes]:
    """The exit code, negative for a signal, and what was said where somebody reads.

    To the end of the interpreter, which looks at its streams once more: a process of
    multiprocessing leaves before.

    unread: which of stdout and stderr are pipes whose reader has left.
    """
    with tempfile.NamedTemporaryFile() as fed, tempfile.NamedTemporaryFile() as output:
        fed.write(stdin)
        fed.flush()
        streams = [None if name in unread else output.name for name in ("stdout", "stderr")]
        asked = (list(arguments), dict(environment), fed.name, *streams)
        whole = _whole()
        assert whole.stdin is not None
        assert whole.stdout is not None
        whole.stdin.write(f"{json.dumps(asked)}\n")
        whole.stdin.flush()
        status = int(whole.stdout.readline())
        return os.waitstatus_to_exitcode(status), output.read()


@cache
def _whole() -> subprocess.Popen[str]:
    """It ends with this process."""
    whole = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    atexit.register(whole.communicate)
    return whole


def _serve() -> None:
    """Fork for each line and tell of the child's end; the child returns, and goes on as a start."""
    asking = os.fdopen(os.dup(0), "rb", buffering=0)
    while asked := asking.readline():
        child = os.fork()
        if not child:
            asking.close()
            signal.alarm(_TIMEOUT_S)
            _begin_anew(*json.loads(asked))
            return
        print(os.waitpid(child, 0)[1], flush=True)
    os._exit(0)


def _begin_anew(
    arguments: list[str], environment: dict[str, str], fed: str, *streams: str | None
) -> None:
    """With streams as an interpreter makes them when it starts."""
    os.dup2(os.open(fed, os.O_RDONLY), 0)
    for number, stream in enumerate(streams, start=1):
        if stream is None:
            reading, unread = os.pipe()
            os.close(reading)
        else:
            unread = os.open(stream, os.O_WRONLY | os.O_APPEND)
        os.dup2(unread, number)
        os.close(unread)
    made = {
        "stdin": open(0, encoding="utf-8", closefd=False),  # noqa: SIM115
        "stdout": open(1, "w", encoding="utf-8", closefd=False),  # noqa: SIM115
        "stderr": open(  # noqa: SIM115
            2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        ),
    }
    # At its end an interpreter goes back to those that it began with.
    vars(sys).update(made | {f"__{name}__": stream for name, stream in made.items()})
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["scim-ledger", *arguments]


if __name__ == "__main__":
    _serve()
    sys.exit(main())  # type: ignore[func-returns-value]  # as the installed script does
