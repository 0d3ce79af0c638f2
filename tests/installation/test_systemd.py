"""deploy/systemd: systemd itself finds units good and closed, and what they start can live so."""

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
SEAL: Final = UNIT.with_name("scim-ledger-seal.service")
TIMER: Final = SEAL.with_suffix(".timer")
UNITS: Final = (UNIT, SEAL, TIMER)
SERVICES: Final = (UNIT, SEAL)
SYSTEMD: Final = {"systemd-analyze": "apt-get install systemd"}
EXPOSURE_MAX: Final = 20
"""Of 100, where nothing closed is 96; most of what is left is the network, which it needs."""
STATE: Final = "/var/lib/scim-ledger"


def directives(path: Path = UNIT) -> Mapping[str, str]:
    lines = path.read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w+=", line))


@pytest.fixture
def root() -> Iterator[Path]:
    """A system with the units, their program and what systemd itself has."""
    require(SYSTEMD)
    with tempfile.TemporaryDirectory(prefix="scim-ledger-systemd-") as made:
        root = Path(made)
        shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
        units = root / "etc/systemd/system"
        for unit in UNITS:
            (units / f"{unit.name}.d").mkdir(parents=True)
            shutil.copy(unit, units)
        for unit in SERVICES:
            shutil.copy(UNIT.with_name("own-postgresql.conf"), units / f"{unit.name}.d")
        program = root / directives()["ExecStart"].split()[0].lstrip("/")
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        yield root


def verified(root: Path, unit: Path) -> str:
    """What systemd says against a unit; its exit code does not tell in every release."""
    command = ["systemd-analyze", "verify", "--man=no", f"--root={root}", unit.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.gateway
@pytest.mark.parametrize(
    ("unit", "line"),
    [(UNIT, "ProtectHome"), (SEAL, "Requisite"), (TIMER, "OnCalendar")],
    ids=[unit.name for unit in UNITS],
)
def test_systemd_knows_every_line_of_the_unit(root: Path, unit: Path, line: str) -> None:
    assert verified(root, unit) == ""
    installed = root / "etc/systemd/system" / unit.name
    installed.write_text(unit.read_text().replace(f"{line}=", f"{line[:-1]}="))
    assert line[:-1] in verified(root, unit), "the check sees what is wrong"


@pytest.mark.gateway
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_unit_is_closed_to_nearly_everything(unit: Path) -> None:
    require(SYSTEMD)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, f"--threshold={EXPOSURE_MAX}", unit], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_seal_is_made_within_the_walls_of_the_service() -> None:
    """Of its user, its state and its settings; but it sees the server that another unit runs."""
    of_a_service = {"Type", "ExecStart", "Restart", "RestartSec", "LimitNOFILE", "KillMode"}
    ended = {"TimeoutStopSec", "TimeoutStartSec"}
    apart = {*of_a_service, *ended, "ProtectProc", "Description", "Wants", "After", "Requisite"}
    same = {name: value for name, value in directives().items() if name not in apart}
    del same["WantedBy"]
    assert {name: value for name, value in directives(SEAL).items() if name not in apart} == same
    filters = [
        re.findall("^SystemCallFilter=.*", each.read_text(), re.MULTILINE) for each in SERVICES
    ]
    assert filters[0] == filters[1]
    assert directives(SEAL)["Requisite"] == directives(SEAL)["After"] == UNIT.name


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


def walls(unit: Path, environment: Path, writable: Mapping[str, Path]) -> Room:
    """What a unit closes, as far as a room can."""
    said = directives(unit)
    assert said["PrivateUsers"] == said["MemoryDenyWriteExecute"] == "yes"
    assert said["ProcSubset"] == "pid"
    return Room(
        shown={str(environment): environment, **python_as_installed()},
        writable=writable,
        scratch=("/tmp",),
        is_hardened=True,
        hides_processes=said.get("ProtectProc") == "invisible",
    )


def started(unit: Path, commands: Path, *before: str) -> list[str]:
    """What the unit starts, in the environment that was made. before: what runs it."""
    program, *arguments = directives(unit)["ExecStart"].split()
    masked = f'umask {directives(unit)["UMask"]} && exec "$@"'
    return ["sh", "-c", masked, "sh", *before, str(commands / Path(program).name), *arguments]


def given(unit: Path) -> Mapping[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(directives(unit)["Environment"]))


@pytest.mark.long
def test_what_the_units_start_lives_within_their_walls(base: Path) -> None:
    """On a read-only tree, without other users' processes to see and without memory to make code
    of: the service, and beside it a seal of its ledger.

    Their filter of system calls is compared with the calls that strace sees; the device policy is
    not played here.
    """
    require({**SYSTEMD, "strace": "apt-get install strace"})
    environment, state, traces = base / "environment", directory(base / "state"), base / "traces"
    commands = wheel.installed(wheel.built(base / "dist"), environment)
    writable = {STATE: state, "/traces": directory(traces)}
    traced = ["strace", "-D", "-f", "-qq", "-o"]
    with Network() as network:
        room, beside = (
            walls(unit, environment, writable)._replace(network=network) for unit in SERVICES
        )
        check = ["curl", "-sf", "--noproxy", "*", "http://127.0.0.1:8080/readyz"]
        argv = started(UNIT, commands, *traced, "/traces/service")
        with Serving(room.command(argv, environment=given(UNIT))) as serving:
            serving.until_healthy(room.command(check))
            seal = started(SEAL, commands, *traced, "/traces/seal")
            told = wheel.run([*beside.command(seal, environment=given(SEAL))])
            serving.until_healthy(room.command(check))
        assert (state / "first-api-token").stat().st_uid == UID
    assert re.fullmatch("1:[0-9a-f]{64}\n", told)
    for name in ("service", "seal"):
        called = set(re.findall(r"^\d+ +(\w+)\(", (traces / name).read_text(), re.MULTILINE))
        assert "openat" in called
        assert called - allowed() == set()
