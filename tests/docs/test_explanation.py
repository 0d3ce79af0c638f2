"""What the explanation says is proven, is: the tests that it names exist."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.documents import ROOT

PAGES: Final = ("docs/explanation/promises.md", "docs/explanation/threats.md")
_PROOF: Final = re.compile(r"\[`(test_\w+)`\]\(([^)]+)\)")


def missing(page: Path, text: str) -> list[str]:
    """The proofs of a page that are not where it says."""
    return [
        f"{target}::{name}"
        for name, target in _PROOF.findall(text)
        if not (page.parent / target).is_file()
        or not re.search(rf"def {name}\(", (page.parent / target).read_text("utf-8"))
    ]


@pytest.mark.parametrize("name", PAGES)
def test_every_proof_that_is_named_exists(name: str) -> None:
    page = ROOT / name
    assert missing(page, page.read_text("utf-8")) == []


def test_a_proof_that_does_not_exist_is_found() -> None:
    page = ROOT / PAGES[0]
    for target in ("../../tests/docs/test_explanation.py", "../../tests/docs/test_nothing.py"):
        assert missing(page, f"[`test_that_nobody_wrote`]({target})") != []


def test_every_promise_has_a_proof() -> None:
    text = (ROOT / PAGES[0]).read_text("utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) >= 9
    assert [row for row in rows if not _PROOF.search(row)] == []
    numbers = [int(row.split("|")[1]) for row in rows]
    assert numbers == list(range(1, len(rows) + 1))


def test_the_picture_of_the_whole_is_legible_in_light_and_dark() -> None:
    """It has a ground of its own, so that no theme of a page matters, and loads nothing."""
    drawn = (ROOT / "docs/explanation/whole.svg").read_text("utf-8")
    assert "prefers-color-scheme: dark" in drawn
    assert '<rect class="paper" width="960" height="560"/>' in drawn
    assert re.findall(r"(?:href|src)=", drawn) == []
    classes = set(re.findall(r'class="(\w+)"', drawn))
    light, _, dark = drawn.partition("@media")
    for each in classes:
        assert f".{each} {{" in light or f".{each}, " in light or f".{each} {{" in drawn
        assert f".{each}" in dark.partition("</style>")[0], f"{each} has no colour in the dark"
