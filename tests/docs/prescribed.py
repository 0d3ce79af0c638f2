"""A PostgreSQL as docs/how-to/own-postgresql.md has it:
two roles with passwords, a database, a pepper.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import psycopg

from domain.postgres.embedded.server import EmbeddedPostgres
from tests.conftest import roomy_directory
from tests.docs.documents import blocks
from tests.gateways.programs import free_port
from tests.service import service_environment, until

DOCUMENT: Final = "docs/how-to/own-postgresql.md"
PASSWORD: Final = "a-password-of-the-how-to"
ALL_BY_PASSWORD: Final = "local all postgres trust\nlocal all all scram-sha-256\n"


Done: TypeAlias = "subprocess.CompletedProcess[str]"


class Prescribed:
    """A machine with such a server; its shell stands in a directory of its own."""

    def __init__(self, server: EmbeddedPostgres, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.port = free_port()

    def administer(self, script: str) -> None:
        """SQL as the server's administrator."""
        conninfo = self.server.conninfo(user="postgres", dbname="postgres")
        with psycopg.connect(conninfo, autocommit=True) as administrator:
            for statement in self.here(script).split(";"):
                if statement.strip():
                    administrator.execute(statement.encode())

    def here(self, script: str) -> str:
        """A script with this machine's names in it."""
        for place in ("/etc/scim-ledger", "/var/lib/scim-ledger"):
            script = script.replace(place, str(self.directory))
        script = script.replace("'…'", f"'{PASSWORD}'").replace(":…@", f":{PASSWORD}@")
        script = re.sub(r"@db/(\w+)", rf"@/\1?host={self.server.base_dir}/data&port=5432", script)
        return re.sub(r"(DATABASE_URL)=(\S+)", r"\1='\2'", script)

    def exports(self) -> str:
        """The variables of the how-to, for a shell that is not its own."""
        (script,) = blocks("migrate", document=DOCUMENT)
        return "\n".join(line for line in script.splitlines() if line.startswith("export"))

    def run(self, script: str, *, exports: bool = True, **variables: str) -> Done:
        """Run a script in a shell that ends at the first command that fails."""
        script = f"{self.exports()}\n{script}" if exports else script
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(script)],
            cwd=self.directory, env=self._environment(**variables), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    def good(self, script: str, *, exports: bool = True) -> str:
        """What a script prints that goes well."""
        done = self.run(script, exports=exports)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The service by the how-to's own words; its URL."""
        (script,) = blocks("serve", document=DOCUMENT)
        process = subprocess.Popen(
            ["bash", "-euc", self.here(script)],
            cwd=self.directory, env=self._environment(SCIM_LEDGER_PORT=str(self.port)),
            start_new_session=True,
        )  # fmt: skip
        url = f"http://127.0.0.1:{self.port}"

        def is_ready() -> bool:
            assert process.poll() is None, f"the service ended with {process.returncode}"
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        try:
            until(is_ready, timeout_s=60, what="readiness")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)

    def _environment(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        token = str(self.directory / "first-api-token")
        return service_environment(
            None, PATH=path, HOME=str(self.directory), SCIM_LEDGER_FIRST_TOKEN_FILE=token, **more
        )


@contextmanager
def prescribed() -> Iterator[Prescribed]:
    """The how-to's first steps are done: roles, database and pepper."""
    base = Path(tempfile.mkdtemp(prefix="scim-ledger-prescribed-", dir=roomy_directory()))
    try:
        base.chmod(0o711)
        (base / "shell").mkdir()
        with EmbeddedPostgres(base / "server") as server:
            rules = base / "server" / "data" / "pg_hba.conf"
            rules.write_text(ALL_BY_PASSWORD)
            made = Prescribed(server, base / "shell")
            made.administer("SELECT pg_reload_conf()")
            (roles,) = blocks("roles", document=DOCUMENT)
            made.administer(roles)
            (pepper,) = blocks("pepper", document=DOCUMENT)
            made.good(pepper, exports=False)
            yield made
    finally:
        shutil.rmtree(base)


def migrated(machine: Prescribed) -> Prescribed:
    """The how-to's third step."""
    (script,) = blocks("migrate", document=DOCUMENT)
    machine.good(script, exports=False)
    return machine
