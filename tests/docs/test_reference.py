"""The reference that is written from the code is what the code says; the rest names the same."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from api.http.problem_types import PROBLEM_TYPES
from api.settings import Settings
from domain.eventstore.event_registry import REGISTRY
from tests.api.cli.test_parity import COMMANDS, ROUTES
from tests.docs.documents import ROOT
from tests.docs.test_structure import anchor

REFERENCE: Final = ROOT / "docs" / "reference"
WRITTEN: Final = ("event-fields.md", "flags.md", "http.md", "problems.md")
TOLD_IN_WORDS: Final = {"DATA_DIR", "PEPPER_FILE", "GITHUB_KEYS_FILE", "OWNER_DATABASE_URL"}
"""Settings of which the reference says what is done without them."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, ROOT / "docs" / "generate.py", directory], check=True)
    return directory


def headings(name: str, level: int) -> list[str]:
    found = re.findall(
        rf"^{'#' * level} (.+)$", (REFERENCE / name).read_text("utf-8"), re.MULTILINE
    )
    assert found
    return found


@pytest.mark.parametrize("name", WRITTEN)
def test_a_page_that_is_written_from_the_code_is_what_the_code_says(
    written: Path, name: str
) -> None:
    """If this fails: python docs/generate.py, and look at what changed."""
    assert {page.name for page in written.iterdir()} == set(WRITTEN)
    assert (REFERENCE / name).read_text("utf-8") == (written / name).read_text("utf-8")


def test_every_type_of_problem_has_an_anchor_and_every_anchor_a_type() -> None:
    """The last part of the `type` that the service sends is the anchor."""
    anchors = [anchor(title) for title in headings("problems.md", 2)]
    assert anchors == [problem.uri.removeprefix("/problems/") for problem in PROBLEM_TYPES.values()]


def test_every_command_every_event_and_every_operation_has_its_place() -> None:
    assert headings("flags.md", 2) == sorted(COMMANDS.keys() - {""})
    assert {each for each in headings("event-fields.md", 2) if "." in each} == REGISTRY.topics
    text = (REFERENCE / "http.md").read_text("utf-8")
    assert set(re.findall(r"^`([A-Z]+ /\S*)` → ", text, re.MULTILINE)) == set(ROUTES.values())


def test_the_default_of_every_setting_is_the_one_that_is_told() -> None:
    text = (REFERENCE / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    defaults = {
        field.encode_name: field.default
        for field in msgspec.structs.fields(Settings)
        if field.encode_name not in TOLD_IN_WORDS
    }
    for name, told in rows:
        if name in TOLD_IN_WORDS:
            continue
        default = defaults.pop(name)
        if default is None or default == "":
            assert told in {"–", "the same"} or told.startswith("none"), name  # noqa: RUF001
        else:
            told_default = type(default)(told) if type(default) is not bool else told == "true"
            assert told_default == default, name
    assert defaults == {}
