"""A release's own command and service on a data directory, as an operator runs them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.docs.documents import ROOT
from tests.upgrade import days_ago

_LISTENS: Final = "scim-ledger listens on "
_WITHIN_S: Final = 60.0


class Release:
    """The command of one release, and a data directory that it works on.

    modules: a folder whose modules come before all others; its `sitecustomize`, if any, is run by
    each process. ago: how long ago it is to those that are started from now on.
    """

    def __init__(self, command: Path, data_dir: Path, *, modules: Path | None = None) -> None:
        self._command = command
        self.data_dir = data_dir
        self._modules = modules
        self.names: list[str] = []
        self.ago = timedelta()

    def run(self, *words: str) -> str:
        """What a command prints."""
        name = f"command-{len(self.names)}"
        done = subprocess.run(
            [self._command, *words, "--data-dir", self.data_dir],
            env=self._environment(name), cwd=self.data_dir.parent,
            capture_output=True, text=True, timeout=_WITHIN_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def told(self, *words: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.run(*words, "--json"))

    @contextmanager
    def serving(self, name: str) -> Iterator[httpx.Client]:
        """A client of the running service, which believes what it is told of clients' addresses."""
        log = self.data_dir.with_name(f"{name}.log")
        with log.open("wb") as written:
            process = subprocess.Popen(
                [self._command, "serve", "--port", "0", "--data-dir", self.data_dir],
                env=self._environment(name), cwd=self.data_dir.parent,
                stdout=written, stderr=written, start_new_session=True,
            )  # fmt: skip
        try:
            url = _told_address(process, log)
            with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(_WITHIN_S) == 0, log.read_text()

    def _environment(self, name: str) -> Mapping[str, str]:
        """GOLDEN_STREAM: what the processes of a run draw from where the kept ledger is made."""
        self.names.append(name)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.data_dir.parent),
            "SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.0/8",
            "GOLDEN_STREAM": name,
            **({} if self._modules is None else {"PYTHONPATH": str(self._modules)}),
            **days_ago.told(self.ago),
        }


def out_of_the_history(commit: str, data_dir: Path) -> Release:
    """An older release, by its own code, which is put beside the data directory."""
    known = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, check=False)
    if known.returncode != 0:
        pytest.skip(f"no rolling upgrade is proven: the history lacks {commit} (a shallow clone?)")
    code = data_dir.with_name("before")
    code.mkdir()
    packed = subprocess.run(
        ["git", "archive", commit, "domain", "projections", "api"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    subprocess.run(["tar", "-x", "-C", code], input=packed, check=True)
    command = data_dir.with_name("scim-ledger-before")
    command.write_text(f"#!{sys.executable}\nfrom api.cli import main\nmain()\n")
    command.chmod(0o755)
    where = subprocess.run(
        [sys.executable, "-c", "import api; print(api.__file__)"],
        env={"PYTHONPATH": str(code)}, cwd=data_dir.parent, check=True, capture_output=True,
        text=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(code)), "this release would stand in for the one before"
    return Release(command, data_dir, modules=code)


def _told_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + _WITHIN_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        for line in log.read_text().splitlines():
            if line.startswith(_LISTENS):
                return line.removeprefix(_LISTENS)
        time.sleep(0.05)
    raise AssertionError(log.read_text())
