"""Three nodes of Patroni with a real PostgreSQL each, for a test to mistreat."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from domain.postgres.embedded.account import ServerAccount
from tests import postgres_programs
from tests.conftest import APP_ROLE, Database
from tests.faults.own_server import process_tree, send
from tests.gateways.programs import free_port
from tests.ha.etcd import Link, Links, etcd
from tests.ready_cluster import copy_cluster, new_base
from tests.service import until

NAMES: Final = ("one", "two", "three")
LOOP_S: Final = 1
LEADS_FOR_S: Final = 20
"""How long a leader that says nothing is still the leader: the least that Patroni takes."""
STARTS_WITHIN_S: Final = 90.0
SETTLES_WITHIN_S: Final = 90.0
PASSES_WITHIN_S: Final = 60.0
STREAMING: Final = "streaming"
needs_patroni: Final = pytest.mark.skipif(
    shutil.which("etcd") is None or find_spec("patroni") is None,
    reason="pip install -r requirements-ha.txt, and apt-get install etcd-server",
)
CLUSTER: Final = {
    "ttl": LEADS_FOR_S,
    "loop_wait": LOOP_S,
    "retry_timeout": 3,
    "postgresql": {
        "use_pg_rewind": True,
        "parameters": {"max_connections": 100, "shared_buffers": "64MB", "wal_keep_size": "64MB"},
    },
}
STRICT: Final = ("synchronous_mode", "synchronous_mode_strict")
"""A commit waits for a standby, and where there is none, it waits, too."""
ALL_MAY: Final = [f"host {what} all 127.0.0.1/32 trust" for what in ("all", "replication")]
"""Of pg_hba.conf: the servers listen on loopback, for one test."""


def _as_account(user: int, group: int) -> list[str]:
    """As root: PostgreSQL runs as another, who may not look into the home of this interpreter."""
    if os.geteuid() != 0:
        return []
    may_read = (f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient"))
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *may_read]


class Role(StrEnum):
    """As Patroni calls it. CONFIRMING: the standby that commits wait for."""

    LEADER = "leader"
    CONFIRMING = "sync_standby"
    FOLLOWING = "replica"


class Node:
    """One of three: Patroni, and the PostgreSQL that it starts."""

    def __init__(self, name: str, base: Path, link: Link, *, is_strict: bool) -> None:
        self.name = name
        self.link = link
        self._cluster = {**CLUSTER, **dict.fromkeys(STRICT, is_strict)}
        self.directory = base / name
        self.data = self.directory / "data"
        self.port, self._api_port = free_port(), free_port()
        self.log = self.directory / "log"
        self._patroni: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        """Of this server alone, as its superuser."""
        return make_conninfo(
            host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=2
        )

    @property
    def url(self) -> str:
        """Of Patroni's own interface."""
        return f"http://127.0.0.1:{self._api_port}"

    def start(self) -> None:
        """Patroni, which starts the server, as leader or as standby."""
        user, group = ServerAccount(self.data).ids()
        configured = self._configured(user, group)
        with self.log.open("ab") as log:
            self._patroni = subprocess.Popen(
                [*_as_account(user, group), sys.executable, "-m", "patroni", configured],
                cwd="/", env={"PATH": os.defpath, "LC_ALL": "C"}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _configured(self, user: int, group: int) -> Path:
        told = {
            "scope": "ledger",
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{self._api_port}",
                "connect_address": f"127.0.0.1:{self._api_port}",
            },
            # As a proxy: what etcd says of itself is another way to it, which no link cuts.
            "etcd3": {"hosts": [f"127.0.0.1:{self.link.port}"], "use_proxies": True},
            "bootstrap": {"dcs": self._cluster},
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data),
                "bin_dir": str(postgres_programs.directory()),
                "pgpass": str(self.directory / "pgpass"),
                "authentication": {
                    role: {"username": "postgres"} for role in ("superuser", "replication")
                },
                "pg_hba": ALL_MAY,
                "parameters": {"unix_socket_directories": str(self.directory)},
            },
            "watchdog": {"mode": "off"},
        }
        self.directory.mkdir(exist_ok=True)
        made = self.directory / "patroni.yml"
        made.write_text(json.dumps(told))  # which is YAML
        if os.geteuid() == 0:
            os.chown(self.directory, user, group)
        return made

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement, as superuser; none for one that returns nothing."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def server_pids(self) -> list[int]:
        """PostgreSQL and its children; none if it does not run."""
        with suppress(FileNotFoundError, IndexError):
            return process_tree(int((self.data / "postmaster.pid").read_text().split()[0]))
        return []

    def patroni_pids(self) -> list[int]:
        """Patroni and what it has started but the server, which is no child of it."""
        return [] if self._patroni is None else process_tree(self._patroni.pid)

    def all_pids(self) -> list[int]:
        """Both."""
        return [*self.patroni_pids(), *self.server_pids()]

    def kill(self) -> None:
        """SIGKILL to all of it, as a power failure would, but for the disk."""
        send(self.all_pids(), signal.SIGKILL)
        if self._patroni is not None:
            self._patroni.wait(30)
            self._patroni = None


class Ensemble:
    """All three and their store. database: names every host, whichever takes writes."""

    def __init__(self, nodes: list[Node], links: Links, *, is_strict: bool) -> None:
        self.nodes = nodes
        self._links = links
        self._is_strict = is_strict
        several = {
            "host": ",".join("127.0.0.1" for _ in nodes),
            "port": ",".join(str(node.port) for node in nodes),
            "target_session_attrs": "read-write",
        }
        owner = make_conninfo(nodes[0].conninfo, **several)
        self.database = Database(owner=owner, app=make_conninfo(owner, user=APP_ROLE))

    def members(self) -> dict[str, dict[str, Any]]:
        """What Patroni says of each node, by its name, as any node that answers knows it."""
        for node in self.nodes:
            with suppress(httpx.TransportError, ValueError, KeyError):
                told = httpx.get(f"{node.url}/cluster", trust_env=False, timeout=2).json()
                return {member["name"]: member for member in told["members"]}
        return {}

    def who(self, role: Role) -> Node:
        """Who has it, once there is one that runs."""
        until(lambda: self._named(role) is not None, what=role, tell=self.said)
        named = self._named(role)
        assert named is not None
        return named

    def until_another(self, role: Role, old: Node) -> None:
        """Wait until it has passed to one that runs."""
        until(
            lambda: self._named(role) not in {None, old},
            timeout_s=PASSES_WITHIN_S, what=f"another {role}", tell=self.said,
        )  # fmt: skip

    def _named(self, role: Role) -> Node | None:
        running = {
            name
            for name, each in self.members().items()
            if each["role"] == role and each["state"] in {"running", STREAMING}
        }
        return next((node for node in self.nodes if node.name in running), None)

    def is_whole(self) -> bool:
        """One leads, the others follow it, and one of them confirms where that is asked for."""
        states = sorted((each["role"], each["state"]) for each in self.members().values())
        second = Role.CONFIRMING if self._is_strict else Role.FOLLOWING
        return states == [
            (Role.LEADER, "running"), (Role.FOLLOWING, STREAMING), (second, STREAMING)
        ]  # fmt: skip

    def settle(self) -> None:
        """Wait until it is whole."""
        until(self.is_whole, timeout_s=SETTLES_WITHIN_S, what="three nodes", tell=self.said)

    def said(self) -> str:
        """The end of every node's log, and what Patroni says now."""
        ends = [f"{node.name}\n{node.log.read_text()[-3000:]}" for node in self.nodes]
        return "\n".join([*ends, str(self.members())])

    def cut_from_etcd(self, node: Node) -> None:
        """The node reaches etcd no more."""
        self._links.do(node.link.cut())

    def mend(self, node: Node) -> None:
        """It does again."""
        self._links.do(node.link.mend())

    def switch_over(self) -> Node:
        """As an operator does on a maintenance day; who leads afterwards."""
        old, new = self.who(Role.LEADER), self.who(Role.CONFIRMING)
        answer = httpx.post(
            f"{old.url}/switchover", json={"leader": old.name, "candidate": new.name},
            trust_env=False, timeout=60,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        return new


@contextmanager
def ensemble(*, is_strict: bool = True) -> Iterator[Ensemble]:
    """Started, with a migrated ledger; gone afterwards. is_strict: no commit without a standby."""
    base = new_base("patroni", is_durable=True)
    with etcd() as port:
        links = Links(port, len(NAMES))
        nodes = [
            Node(name, base, link, is_strict=is_strict)
            for name, link in zip(NAMES, links.each, strict=True)
        ]
        made = Ensemble(nodes, links, is_strict=is_strict)
        try:
            copy_cluster(base / NAMES[0])
            nodes[0].start()
            until(lambda: "one" in made.members(), timeout_s=STARTS_WITHIN_S, what="the first node",
                  tell=made.said)  # fmt: skip
            for node in nodes[1:]:
                node.start()
            made.settle()
            yield made
        finally:
            for node in nodes:
                node.kill()
            links.close()
            shutil.rmtree(base)
