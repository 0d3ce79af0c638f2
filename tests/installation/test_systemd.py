"""deploy/systemd: systemd itself finds the unit good and closed, and what it starts can live so."""

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from api.settings import KNOWN, PREFIX
from tests.gateways.programs import DEPLOY, require
from tests.installation import wheel
from tests.installation.container.image import directory
from tests.installation.room import UID, Network, Room, python_as_installed
from tests.installation.running import Serving

UNIT: Final = DEPLOY / "systemd" / "scim-ledger.service"
SYSTEMD: Final = {"systemd-analyze": "apt-get install systemd"}
EXPOSURE_MAX: Final = 20
"""Of 100, where nothing closed is 96; most of what is left is the network, which it needs."""
STATE: Final = "/var/lib/scim-ledger"


def directives(path: Path = UNIT) -> Mapping[str, str]:
    lines = path.read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w+=", line))


@pytest.fixture
def root() -> Iterator[Path]:
    """A system with the unit, its program and what systemd itself has."""
    require(SYSTEMD)
    with tempfile.TemporaryDirectory(prefix="scim-ledger-systemd-") as made:
        root = Path(made)
        shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
        units = root / "etc/systemd/system"
        (units / "scim-ledger.service.d").mkdir(parents=True)
        shutil.copy(UNIT, units)
        shutil.copy(UNIT.with_name("own-postgresql.conf"), units / "scim-ledger.service.d")
        program = root / directives()["ExecStart"].split()[0].lstrip("/")
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        yield root


def verified(root: Path) -> str:
    """What systemd says against the unit; its exit code does not tell in every release."""
    command = ["systemd-analyze", "verify", "--man=no", f"--root={root}", UNIT.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.gateway
def test_systemd_knows_every_line_of_the_unit(root: Path) -> None:
    assert verified(root) == ""
    unit = root / "etc/systemd/system" / UNIT.name
    unit.write_text(UNIT.read_text().replace("ProtectHome=", "ProtectHom="))
    assert "ProtectHom" in verified(root), "the check sees what is wrong"


@pytest.mark.gateway
def test_the_unit_is_closed_to_nearly_everything() -> None:
    require(SYSTEMD)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, f"--threshold={EXPOSURE_MAX}", UNIT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.gateway
def test_the_user_is_made(root: Path) -> None:
    require({"systemd-sysusers": "apt-get install systemd"})
    made = UNIT.with_name("sysusers.conf")
    wheel.run(["systemd-sysusers", f"--root={root}", made])
    user = directives()["User"]
    assert re.search(f"^{user}:.*:{STATE}:", (root / "etc/passwd").read_text(), re.MULTILINE)


def test_its_variables_are_settings_and_its_state_is_the_ledgers() -> None:
    given = [directives(), directives(UNIT.with_name("own-postgresql.conf"))]
    names = {pair.partition("=")[0] for each in given for pair in shlex.split(each["Environment"])}
    ours = {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}
    assert ours <= {*KNOWN}
    assert f"XDG_DATA_HOME={Path(STATE).parent}" in directives()["Environment"]
    assert directives()["StateDirectory"] == Path(STATE).name


def allowed() -> set[str]:
    """The system calls that the unit's filters leave."""
    named: dict[str, set[str]] = {}
    said = wheel.run(["systemd-analyze", "syscall-filter"])
    for line in re.findall(r"^(@[\w-]+)|^ {4}(@?[\w-]+)$", said, re.MULTILINE):
        if line[0]:
            members = named.setdefault(line[0], set())
        else:
            members.add(line[1])

    def calls(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {call for member in named[name] for call in calls(member)}

    filters = re.findall(r"^SystemCallFilter=(~?)(\S+)$", UNIT.read_text(), re.MULTILINE)
    (good,) = (calls(name) for tilde, name in filters if not tilde)
    return good - {call for tilde, name in filters if tilde for call in calls(name)}


@pytest.mark.long
def test_what_the_unit_starts_lives_within_its_walls(base: Path) -> None:
    """On a read-only tree, without other processes to see and without memory to make code of.

    Its filter of system calls is compared with the calls that strace sees; the device policy is
    not played here.
    """
    require({**SYSTEMD, "strace": "apt-get install strace"})
    environment, state, traces = base / "environment", directory(base / "state"), base / "traces"
    commands = wheel.installed(wheel.built(base / "dist"), environment)
    room = Room(
        shown={str(environment): environment, **python_as_installed()},
        writable={STATE: state, "/traces": directory(traces)},
        scratch=("/tmp",),
        is_hardened=True,
    )
    program, *arguments = directives()["ExecStart"].split()
    traced = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/traces/calls",
        str(commands / Path(program).name),
    ]
    argv = ["sh", "-c", f'umask {directives()["UMask"]} && exec "$@"', "sh", *traced, *arguments]
    given = dict(pair.split("=", 1) for pair in shlex.split(directives()["Environment"]))
    with Network() as network:
        room = room._replace(network=network)
        check = ["curl", "-sf", "--noproxy", "*", "http://127.0.0.1:8080/readyz"]
        with Serving(room.command(argv, environment=given)) as serving:
            serving.until_healthy(room.command(check))
        assert (state / "first-api-token").stat().st_uid == UID
    called = set(re.findall(r"^\d+ +(\w+)\(", (traces / "calls").read_text(), re.MULTILINE))
    assert "openat" in called
    assert called - allowed() == set()
