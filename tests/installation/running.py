"""A process that serves, in a room or outside."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.service import until

STOPS_WITHIN_S = 60


class Serving:
    """A command that runs while the block does; SIGTERM ends it, with 0 unless `exit_code`."""

    def __init__(self, command: Sequence[str], *, exit_code: int = 0) -> None:
        self._command = command
        self._exit_code = exit_code

    def __enter__(self) -> Self:
        with tempfile.NamedTemporaryFile(prefix="scim-ledger-log-", delete=False) as log:
            self._log = Path(log.name)
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        exit_code = self.process.wait(STOPS_WITHIN_S)
        said = self.said()
        self._log.unlink()
        assert exit_code == self._exit_code, said
        assert "Traceback" not in said, said

    def said(self) -> str:
        return self._log.read_text("utf-8")

    def until_healthy(self, check: Sequence[str]) -> None:
        """Wait until a command ends with 0."""

        def is_healthy() -> bool:
            assert self.process.poll() is None, self.said()
            return subprocess.run(check, capture_output=True, check=False).returncode == 0

        until(is_healthy, timeout_s=60, what="health", tell=self.said)
