"""The services of compose.yaml as processes, each in the room that its container would be.

There is no engine here: the names of the services lead to one loopback device, and their ports are
theirs. PostgreSQL is the embedded server's, nginx Debian's; Prometheus and Grafana are not run.
"""

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import psycopg

from domain.postgres.embedded.programs import installed_programs
from tests.gateways.programs import DEPLOY
from tests.installation import wheel
from tests.installation.container import compose
from tests.installation.container.image import DATA, ENVIRONMENT, directory
from tests.installation.room import Network, Room, python_as_installed

SERVICES: Final = compose.services()
NAMES: Final = tuple(SERVICES)
ALL_BY_PASSWORD: Final = "local all all trust\nhost all all all scram-sha-256\n"
KEEP_POSTGRES: Final = """
import sys
from pathlib import Path
from domain.postgres.embedded.server import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), settings={"listen_addresses": "*"}) as server:
    (server.base_dir / "data" / "pg_hba.conf").write_text(sys.argv[2])
    print(server.conninfo(user="postgres", dbname="postgres"), flush=True)
    sys.stdin.read()
"""


class Installation:
    """The services that are run, each in the room that its image would be."""

    def __init__(self, image: Room, base: Path, network: Network) -> None:
        self.image = image._replace(network=network, hosts=NAMES)
        self.plain = Room(network=network, hosts=NAMES)
        self.base = base

    def ledger(self, name: str) -> tuple[Room, dict[str, str]]:
        return self.image, {**ENVIRONMENT, **SERVICES[name]["environment"]}

    def told(self, *argv: str, name: str = "ledger") -> str:
        """What a command in the service's container prints, as by `compose exec`."""
        room, environment = self.ledger(name)
        return wheel.run([*room.command(argv, cwd=DATA, environment=environment)])

    def service(self, name: str) -> list[str]:
        room, environment = self.ledger(name)
        argv = ["scim-ledger", *SERVICES[name]["command"]]
        return room.command(argv, cwd=DATA, environment=environment)

    def check(self, name: str) -> list[str]:
        room, environment = self.ledger(name)
        return room.command(compose.healthcheck(SERVICES[name]), environment=environment)

    def postgres(self, running: ExitStack, network: Network) -> None:
        """A server whose administrator has a password, and the script for an empty volume."""
        programs = installed_programs()
        place = self.base / "postgres"
        place.mkdir(mode=0o711)
        keeper = running.enter_context(
            subprocess.Popen(
                [*network.joined(), sys.executable, "-c", KEEP_POSTGRES, place, ALL_BY_PASSWORD],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=wheel.ROOT,
            )
        )  # fmt: skip
        assert keeper.stdout is not None
        given = {"POSTGRES_USER": "postgres", **SERVICES["postgres"]["environment"]}
        with psycopg.connect(keeper.stdout.readline(), autocommit=True) as administrator:
            password = given["POSTGRES_PASSWORD"]
            administrator.execute(f"ALTER ROLE postgres PASSWORD '{password}'".encode())
            administrator.execute("SELECT pg_reload_conf()")
        shown = {
            **compose.mounts(SERVICES["postgres"]),
            "/programs": programs.parents[2],  # beside their libraries
        }
        path = f"/programs/{programs.relative_to(programs.parents[2])}:/usr/bin:/bin"
        login = {"PATH": path, "PGHOST": "127.0.0.1", "PGPASSWORD": password}
        room = self.plain._replace(shown=shown)
        (script,) = (target for target in shown if target.endswith(".sh"))
        wheel.run([*room.command([script], environment={**given, **login})])
        check = compose.healthcheck(SERVICES["postgres"])
        wheel.run([*room.command(check, environment={"PATH": path})])

    def scim(self) -> list[str]:
        environment = Path(sys.prefix).resolve()
        real = Path(shutil.which("scim2-server", path=str(Path(sys.executable).parent)) or "")
        shown = {**python_as_installed(), str(environment): environment}
        shown |= {str(real.resolve().parents[1]): real.resolve().parents[1]}
        argv = [str(real.resolve()), *SERVICES["scim"]["command"][1:]]
        return self.plain._replace(shown=shown).command(argv)

    def nginx(self) -> list[str]:
        """What the image's entrypoint does: variables of the filter are filled in, others left."""
        given = SERVICES["nginx"]["environment"]
        ((_, template),) = compose.mounts(SERVICES["nginx"]).items()
        names = [name for name in given if re.match(given["NGINX_ENVSUBST_FILTER"], name)]
        text = template.read_text()
        for name in names:
            text = text.replace(f"${{{name}}}", given[name])
        place = directory(self.base / "nginx")
        (place / "scim.conf").write_text(text)
        shutil.copy(DEPLOY / "nginx" / "nginx.conf", place)
        argv = ["/usr/sbin/nginx", "-e", "stderr", "-p", "/run/nginx", "-c", "nginx.conf"]
        return self.plain._replace(writable={"/run/nginx": place}).command(argv)

    def curl(self, url: str, token: str) -> str:
        argv = ["curl", "-sf", "--noproxy", "*", url, "-H", f"Authorization: Bearer {token}"]
        return wheel.run([*self.plain.command(argv)])
