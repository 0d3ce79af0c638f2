"""Every command of the tutorial runs, in order, on a fresh clone with a fresh home."""

import re
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.docs.documents import ROOT, all_blocks, blocks
from tests.docs.walk import Walk, stop
from tests.gateways.programs import PROGRAMS, require

DOCUMENT: Final = "docs/tutorial/first-token.md"
TEAM: Final = "05daecaf-4365-42e8-8370-8127de5dd717"


def ten_minutes(walk: Walk) -> str:
    """All blocks of the "walk"; what they printed."""
    scripts = [
        script
        for words, script in all_blocks(ROOT / DOCUMENT)
        if words[0] == "walk" and (walk.has_gateways or "nginx" not in words)
    ]
    done = walk.run(scripts)
    if walk.has_gateways:
        assert done.stderr.count(f"asked by team {TEAM}") == 2
    return done.stdout


def told(output: str, *, has_gateways: bool) -> None:
    """The tutorial shows what it says."""
    answers = re.findall(r"HTTP/1\.1 (\d+)", output)
    assert answers == (["200", "200", "401", "401"] if has_gateways else ["200", "401"])
    assert re.search(r'"last_used_at":"[0-9T:.-]+Z"', output)
    (revoked, *_) = re.findall(r"^\S+Z +scim_token\.revoked .*$", output, re.MULTILINE)
    assert "left the company" in revoked
    assert revoked.split()[-2:] == ["4f9b5c02-6f39-4c2f-8f6e-3f2d0d9f7a11", "127.0.0.1"]
    assert re.search(r"scim_token\.refused .* revoked ", output)
    rows = re.findall(r"^\S+Z +scim_token\.(?:used|refused) .*$", output, re.MULTILINE)
    assert {row.split()[-1] for row in rows} == {"127.0.0.1"}, "those were you"


@pytest.mark.long
def test_the_ten_minutes_do_what_they_say(clone: Path) -> None:
    (clone / ".venv").symlink_to(sys.prefix)
    walk = Walk(clone, has_gateways=False)
    (command,) = blocks("start", document=DOCUMENT)
    service = walk.start(command.rpartition(" && ")[2])
    try:
        told(ten_minutes(walk), has_gateways=False)
    finally:
        stop(service)


@pytest.mark.gateway
def test_they_do_from_the_first_command_on_and_through_nginx(clone: Path) -> None:
    require(PROGRAMS["nginx"])
    (command,) = blocks("start", document=DOCUMENT)
    walk = Walk(clone, has_gateways=True)
    service = walk.start(command)
    try:
        told(ten_minutes(walk), has_gateways=True)
    finally:
        stop(service)


def test_it_starts_with_the_command_of_the_readme() -> None:
    assert blocks("start", document=DOCUMENT) == blocks("run")
