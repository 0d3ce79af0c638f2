"""The command line of a worker's process, for whoever starts one without serving itself."""

import sys
from collections.abc import Sequence


def worker_argv(
    app_factory: str,
    *,
    listen_fds: Sequence[int],
    lifeline_fd: int,
    worker_number: int,
    beat_fd: int | None = None,
) -> tuple[str, ...]:
    """Return the command line that runs `run_worker` with these arguments in a
    process of its own.
    """
    return (
        *(sys.executable, "-m", "api.server.worker", app_factory),
        *(argument for fd in listen_fds for argument in ("--listen-fd", str(fd))),
        *("--lifeline-fd", str(lifeline_fd)),
        *("--worker-number", str(worker_number)),
        *(() if beat_fd is None else ("--beat-fd", str(beat_fd))),
    )
