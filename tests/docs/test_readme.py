"""Every command of the README runs, in order, on a fresh clone with a fresh home."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, blocks
from tests.docs.walk import Walk, stop


def five_minutes(walk: Walk) -> str:
    """All blocks of the walk; what they printed."""
    left_out = [] if walk.has_gateways else blocks("gateway")
    return walk.run([script for script in blocks("walk") if script not in left_out]).stdout


def told(output: str, *, has_gateways: bool) -> None:
    """The five minutes show what the README says they show."""
    assert '"last_used_at":null' in output  # as it was created
    assert re.search(r'"last_used_at":"[0-9T:.-]+Z"', output)  # after the use
    assert output.count("HTTP/1.1 200") == 1
    assert output.count("HTTP/1.1 401") == 1
    assert "x-scim-team-id: 05daecaf-4365-42e8-8370-8127de5dd717" in output
    for kind in (
        "scim_token.created",
        "scim_token.used",
        "scim_token.refused",
        "scim_token.revoked",
    ):
        assert kind in output
    rows = re.findall(r"^\S+Z +scim_token\.(?:used|refused) .*$", output, re.MULTILINE)
    assert {row.split()[-1] for row in rows} == {"127.0.0.1"}, "a client's address"
    if has_gateways:
        assert "urn:ietf:params:scim:api:messages:2.0:ListResponse" in output


@pytest.mark.long
def test_the_five_minutes_do_what_they_say(clone: Path) -> None:
    (clone / ".venv").symlink_to(sys.prefix)
    walk = Walk(clone, has_gateways=False)
    (command,) = blocks("run")
    service = walk.start(command.rpartition(" && ")[2])
    try:
        told(five_minutes(walk), has_gateways=False)
    finally:
        stop(service)


@pytest.mark.gateway
def test_a_fresh_clone_runs_by_the_commands_of_the_readme(clone: Path) -> None:
    (command,) = blocks("run")
    walk = Walk(clone, has_gateways=True)
    service = walk.start(command)
    try:
        told(five_minutes(walk), has_gateways=True)
    finally:
        stop(service)


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    (command,) = blocks("test")
    extracted = subprocess.run(
        [ROOT / ".ci" / "readme-command", "test"], capture_output=True, text=True, check=True
    ).stdout
    assert extracted.strip() == command.strip()
    assert ".ci/readme-command test" in (ROOT / ".ci" / "run").read_text("utf-8")
