"""docs/how-to/install.md and upgrade.md, block by block, outside the checkout."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.conftest import roomy_directory
from tests.docs import prescribed
from tests.docs.documents import ROOT, blocks
from tests.docs.prescribed import migrated
from tests.gateways.programs import SEARCH_PATH, free_port, require
from tests.installation import wheel
from tests.installation.room import Room, python_as_installed, require_root
from tests.installation.running import Serving

DOCUMENT: Final = "docs/how-to/install.md"
UPGRADE: Final = "docs/how-to/upgrade.md"
COMMANDS: Final = str(Path(sys.executable).parent)


def of_the_registries() -> dict[str, str]:
    """What pip needs to reach one."""
    return {name: each for name, each in os.environ.items() if name.startswith(("PIP_", "SSL_"))}


class Person:
    """Somebody with a shell, an empty home and the checkout; what they make is in `base`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.port = free_port()
        for name in ("home", "work"):
            (base / name).mkdir(mode=0o755)
        pins = str(wheel.constraints(base))
        self.environment = {
            **of_the_registries(),
            "HOME": str(base / "home"),
            "PATH": f"{base}/home/.local/bin:{COMMANDS}:{SEARCH_PATH}",
            "UV_CACHE_DIR": wheel.run([wheel.UV, "cache", "dir"]).strip(),
            "UV_CONSTRAINT": pins,
            "PIP_CONSTRAINT": pins,
            "UV_PYTHON": sys.executable,
            "SCIM_LEDGER_PORT": str(self.port),
            "SCIM_LEDGER_DATA_DIR": str(base / "data"),
        }

    def shell(self, word: str) -> list[str]:
        (script,) = blocks(word, document=DOCUMENT)
        script = script.replace("dist", str(self.base / "dist"))
        script = script.replace("/opt/scim-ledger", str(self.base / "opt"))
        return ["env", "-C", str(self.base / "work"), "bash", "-euo", "pipefail", "-c", script]

    def told(self, word: str, *, cwd: Path | None = None) -> str:
        command = self.shell(word)
        if cwd is not None:
            command[2] = str(cwd)
        return wheel.run([*command], env=self.environment)


@pytest.fixture(scope="module")
def person() -> Iterator[Person]:
    with tempfile.TemporaryDirectory(prefix="scim-ledger-person-", dir=roomy_directory()) as base:
        Path(base).chmod(0o711)
        made = Person(Path(base))
        made.told("wheel", cwd=ROOT)
        yield made


@pytest.mark.long
def test_one_command_runs_it(person: Person) -> None:
    check = ["curl", "-sf", "--noproxy", "*", f"http://127.0.0.1:{person.port}/readyz"]
    given = [f"{name}={value}" for name, value in person.environment.items()]
    with Serving(["env", *given, *person.shell("uvx")]) as serving:
        serving.until_healthy(check)
        assert "every variable is known" in person.told("check")


@pytest.mark.long
def test_pipx_has_the_command_at_hand(person: Person) -> None:
    said = person.told("pipx").split()[-1]
    assert f'version = "{said}"' in (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.mark.long
def test_under_systemd_it_has_its_unit_and_its_user(person: Person) -> None:
    """The paths are those of a system of their own; no systemd runs there."""
    require_root()
    require({"systemd-sysusers": "apt-get install systemd"})
    person.told("pinned", cwd=ROOT)
    etc = person.base / "etc"
    etc.mkdir()
    for name in ("passwd", "group"):
        shutil.copy(Path("/etc", name), etc)
    for name in ("shadow", "gshadow"):
        (etc / name).touch(mode=0o600)
    opt = person.base / "opt"
    room = Room(shown={**python_as_installed(), str(opt): opt}, writable={"/etc": etc}, user=0)
    for word in ("systemd", "credential", "timer"):
        wheel.run([*room.command(person.shell(word)[3:], environment={"SHELL": "/bin/bash"})])
    deploy = ROOT / "deploy" / "systemd"
    units = etc / "systemd" / "system"
    unit = units / "scim-ledger.service"
    assert unit.read_text() == (deploy / "scim-ledger.service").read_text()
    for kind in ("service", "timer"):
        name = f"scim-ledger-seal.{kind}"
        assert (units / name).read_text() == (deploy / name).read_text()
    for service in ("scim-ledger", "scim-ledger-seal"):
        drop_in = units / f"{service}.service.d" / "own-postgresql.conf"
        assert drop_in.read_text() == (deploy / "own-postgresql.conf").read_text()
    assert "\nscim-ledger:" in (etc / "passwd").read_text()


SYSTEMD_RUN: Final = r"""#!/bin/bash
# What systemd-run does for a unit's settings, without a systemd.
set -eu
while [[ $1 == --* ]]; do
  case $1 in
  --property=LoadCredential=pepper:*) export CREDENTIALS_DIRECTORY="$(dirname "${1##*:}")" ;;
  --property=EnvironmentFile=*)
    while read -r line; do export "${line%%=*}=${line#*=}"; done <"${1#*File=}" ;;
  --property=ReadWritePaths=* | --uid=scim-ledger | --pipe | --wait | --collect) ;;
  *) exit 9 ;;
  esac
  shift
done
exec "$@"
"""


@pytest.mark.long
def test_a_command_is_run_with_the_settings_of_the_unit() -> None:
    (script,) = blocks("unit", document=DOCUMENT)
    with prescribed.prescribed() as machine:
        program = machine.directory / "systemd-run"
        program.write_text(SYSTEMD_RUN)
        program.chmod(0o755)
        urls = [line for line in machine.here(machine.exports()).splitlines() if "URL=" in line]
        told = [line.removeprefix("export ").replace("'", "") for line in urls]
        (machine.directory / "environment").write_text("\n".join([*told, ""]))
        script = script.replace("/opt/scim-ledger/bin", COMMANDS)
        path = f"PATH={machine.directory}:$PATH\n"
        said = machine.good(path + script, exports=False)
    assert "none is pending" in said
    assert "generation" in said, "that of keys"


@pytest.mark.long
def test_the_extras_are_installed_with_the_wheel(person: Person) -> None:
    assert person.told("extras", cwd=ROOT).strip()
    requirements = ("requirements-traces.txt", "requirements-leaks.txt")
    (pinned,) = blocks("extraspinned", document=DOCUMENT)
    assert [word for word in pinned.split() if word.endswith(".txt")] == [*requirements]
    assert all((ROOT / each).is_file() for each in requirements)


@pytest.mark.long
def test_the_compose_file_is_copied_and_its_secrets_are_made(person: Person) -> None:
    person.told("compose")
    place = person.base / "work" / "container"
    secrets = (place / ".env").read_text().splitlines()
    assert (place / ".env").stat().st_mode & 0o077 == 0
    assert len({line.partition("=")[2] for line in secrets}) == len(secrets) == 5
    for line in secrets:
        assert f"${{{line.partition('=')[0]}:?" in (place / "compose.yaml").read_text()
    text = (place / "compose.yaml").read_text()
    (made,) = (each for each in blocks("compose", document=DOCUMENT))
    assert made.splitlines()[2].strip("( ")[:40] in text, "the file's top says the same"


@pytest.mark.gateway
def test_the_kustomization_is_copied_and_built(person: Person) -> None:
    require({"kubectl": "pip install -r requirements-gateways.txt"})
    assert "kind: PodDisruptionBudget" in person.told("kubernetes")


@pytest.mark.long
def test_an_upgrade_and_the_way_back() -> None:
    """With one release, where each step finds nothing to do; with two, in tests/upgrade/."""
    with prescribed.prescribed() as machine:
        migrated(machine)
        machine.good(f"scim-ledger token create --team {uuid4()} --user {uuid4()} --name Okta")

        def only(word: str) -> str:
            (script,) = blocks(word, document=UPGRADE)
            return machine.good(script)

        assert "events: 1" in only("before")
        assert "applied: \n" in only("expand") or "applied: -" in only("expand")
        with machine.serving():
            assert "none is pending" in only("check")
        assert "damage: -" in only("verify")
        assert "none is pending" in only("back")
