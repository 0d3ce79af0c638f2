"""The picture of the structure, the tour of CONTRIBUTING.md, and the READMEs of the packages."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from domain.ledger import TokenLedger
from tests.docs.documents import ROOT, blocks

PACKAGES: Final = ("api", "domain", "projections")
ONE_SCREEN: Final = 60
CLICKS: Final = 4
_STEP: Final = re.compile(r"^(\d)\. \[([^]]+)\]\(([^)]+)\)(?: `(\w+)`)?: ")


def contributing() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def tour() -> dict[str, list[str]]:
    """Each question of the tour, and the lines of its answer."""
    _, _, found = contributing().partition("## Where to find it\n")
    sections = found.split("\n### ")[1:]
    return {
        question: [line for line in lines if line[:1].isdigit()]
        for question, *lines in (section.splitlines() for section in sections)
    }


def test_the_picture_of_the_structure_is_what_the_imports_say() -> None:
    """If this fails: python docs/structure.py > docs/structure.svg, and look at the picture."""
    drawn = subprocess.run(
        [sys.executable, ROOT / "docs" / "structure.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "structure.svg").read_text("utf-8") == drawn


def test_the_tour_answers_each_question_within_four_clicks() -> None:
    assert len(tour()) >= 8
    for question, steps in tour().items():
        assert 1 <= len(steps) <= CLICKS, question
        numbers = [int(step[0]) for step in steps]
        assert numbers == list(range(1, len(steps) + 1)), question


def test_the_tour_leads_to_files_and_names_that_exist() -> None:
    for question, steps in tour().items():
        for step in steps:
            found = _STEP.match(step)
            assert found is not None, f"{question}: {step}"
            _, shown, target, name = found.groups()
            assert shown == target, f"{question}: {step}"
            text = (ROOT / target).read_text("utf-8")
            for word in filter(None, [name]):
                defined = rf"^\s*(?:class |(?:async )?def |(?:CREATE FUNCTION ledger\.))?{word}\b"
                assert re.search(defined, text, re.MULTILINE), f"{question}: no {word} in {target}"


@pytest.mark.long
def test_the_commands_of_contributing_find_their_tests() -> None:
    """The first is the README's own, which other tests run; the others select something."""
    commands = re.findall(r"^\.venv/bin/python -m (pytest .*?) +#", contributing(), re.MULTILINE)
    (readme,) = blocks("test")
    assert readme.strip().endswith(commands[0])
    for command in commands[1:]:
        collected = subprocess.run(
            [sys.executable, "-m", *shlex.split(command), "--collect-only", "-q"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert collected.returncode == 0, collected.stdout
    assert (ROOT / ".ci" / "run").is_file()


@pytest.mark.parametrize("folder", [*PACKAGES, "deploy", "tests/benchmarks"])
def test_the_readme_of_a_folder_is_one_screen(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= ONE_SCREEN
    assert "\nWhat may live here: " in text


@pytest.mark.parametrize("package", PACKAGES)
def test_each_file_that_a_readme_says_to_open_exists(package: str) -> None:
    folder = ROOT / package
    rows = (folder / "README.md").read_text("utf-8").splitlines()
    for row in (row for row in rows if row.startswith("| ")):
        for name in re.findall(r"`([\w/]+\.(?:py|sql)|[\w/]+/)`", row):
            places = [folder / name, ROOT / name, *folder.glob(f"*/{name}")]
            assert any(map(Path.exists, places)), f"{package}: {name}"


def test_each_method_of_the_ledger_is_in_the_row_of_its_file() -> None:
    text = (ROOT / "domain/command_handlers/README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)\.py` \| (.+) \|$", text, re.MULTILINE)
    told = {file: re.findall(r"`([a-z]\w+)`", methods) for file, methods in rows}
    bases = [base for base in TokenLedger.__mro__ if ".command_handlers." in base.__module__]
    assert told == {
        base.__module__.rpartition(".")[2]: [name for name in vars(base) if name[0] != "_"]
        for base in bases
    }


def test_each_decision_that_a_readme_names_is_told_in_full() -> None:
    for package in PACKAGES:
        told = (ROOT / f"docs/explanation/decisions/{package}.md").read_text("utf-8")
        anchors = {anchor(title) for title in re.findall(r"^### (.+)$", told, re.MULTILINE)}
        text = (ROOT / package / "README.md").read_text("utf-8")
        named = re.findall(rf"decisions/{package}\.md#([^)]+)\)", text)
        assert named
        assert set(named) <= anchors


def anchor(title: str) -> str:
    """The name by which a heading is linked to, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
