"""One HTTP worker process: a uvicorn server on the listening sockets that the supervisor opened.

    python -m api.server.worker APP_FACTORY --listen-fd N [--listen-fd N ...] --lifeline-fd N
        [--beat-fd N] [--worker-number N]

It leaves gracefully, finishing what it accepted, on SIGTERM and when the lifeline ends. The
lifeline is the read end of a pipe whose other end only the supervisor holds: however that one dies,
no worker outlives it.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from types import FrameType

import structlog
import uvicorn

from api.process import let_readers_leave, raise_descriptor_limit, spare_the_collector
from api.server.heartbeat import keep_beating
from api.server.listening import is_listening, url_of
from api.server.protocol import StrictHttpProtocol
from api.settings import PREFIX
from api.shutdown_notice import leave
from api.telemetry.log_lines import log_without_waiting

GRACE_S = 10

_log = structlog.get_logger()


class _WorkerServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, lifeline_fd: int, beat_fd: int | None) -> None:
        super().__init__(config)
        self._lifeline_fd = lifeline_fd
        self._beat_fd = beat_fd
        self._beating: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The application is loaded: open the sockets, which listen from the first worker on.

        Since they were bound, another program may have taken the port, of which the loop says
        nothing: then leave, to be started again until it is free.
        """
        spare_the_collector()
        addresses = [(each, url_of(each)) for each in sockets or ()]
        await super().startup(sockets)
        for listener, address in addresses:
            # One that cannot listen has been closed, or left as it was.
            if listener.fileno() < 0 or not is_listening(listener):
                _log.error("port in use", address=address)
                asyncio.get_running_loop().call_soon(self.handle_exit, signal.SIGTERM, None)
        if self._beat_fd is not None:
            self._beating = asyncio.create_task(keep_beating(self._beat_fd))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take every way in which a worker is told to leave.

        The stock method raises the signal again at the end, so that a graceful stop looks like a
        death.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_reader(self._lifeline_fd, self._leave_orphaned)
        yield
        loop.remove_reader(self._lifeline_fd)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave, and let go whoever only waits."""
        super().handle_exit(sig, frame)
        leave()

    def _leave_orphaned(self) -> None:
        asyncio.get_running_loop().remove_reader(self._lifeline_fd)
        self.should_exit = True
        leave()
        signal.alarm(GRACE_S + 5)  # nobody is left to end us if the application hangs


def run_worker(
    app_factory: str,
    *,
    listen_fds: Sequence[int],
    lifeline_fd: int,
    beat_fd: int | None,
    worker_number: int,
) -> None:
    """Serve until told to leave.

    app_factory: `module:function` that returns an ASGI application with a lifespan.
    listen_fds, lifeline_fd: inherited descriptors; they are owned by this process from here on.
    beat_fd: of a `Pulse`.
    worker_number: 1 to N, in every log record of this process as `worker`, and which page of the
        metrics is its own.
    """
    structlog.contextvars.bind_contextvars(worker=worker_number)
    os.environ[f"{PREFIX}WORKER_NUMBER"] = str(worker_number)
    raise_descriptor_limit()
    config = uvicorn.Config(
        app_factory,
        factory=True,
        loop="uvloop",
        http=StrictHttpProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
    )
    sockets = [socket.socket(fileno=fd) for fd in listen_fds]
    _WorkerServer(config, lifeline_fd, beat_fd).run(sockets=sockets)


def main(argv: Sequence[str] | None = None) -> None:
    let_readers_leave()
    log_without_waiting()
    parser = argparse.ArgumentParser(prog="api.server.worker")
    parser.add_argument("app_factory", metavar="APP_FACTORY")
    parser.add_argument("--listen-fd", dest="listen_fds", type=int, action="append", required=True)
    parser.add_argument("--lifeline-fd", type=int, required=True)
    parser.add_argument("--beat-fd", type=int, default=None)
    parser.add_argument("--worker-number", type=int, default=1)
    run_worker(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
