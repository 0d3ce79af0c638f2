"""What the explanation says is proven, is: the tests that it names exist. What it says is about
people, is all that may be.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from msgspec.inspect import (
    BoolType,
    DateTimeType,
    IntType,
    ListType,
    NoneType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from tests.docs.documents import ROOT
from tests.projections.audit_trail.test_every_field import EVENTS

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


PERSONAL: Final = ROOT / "docs/explanation/personal-data.md"
_ROW: Final = re.compile(r"^\| `(\w+)` \| ([\w, ]+) \|", re.MULTILINE)
OF_NOBODY: Final = {
    ("Presentation", name) for name in ("door", "form", "method", "path_class", "note")
} | {
    ("Created", "team_id"),
    ("Created", "teams"),
    ("Created", "permissions"),
    ("Created", "session_secret"),
    ("Set", "team_id"),
    ("Refused", "permission"),
    ("Refused", "reason"),  # one of ours
    ("Counted", "door"),
    ("Counted", "reason"),
    ("Revoked", "cause"),
    ("RotationFinished", "cause"),
    ("Rotated", "setup_link"),
    ("SetupLinkEnded", "setup_link"),
    ("SetupLinkCreated", "digest"),
    ("Digest", "value"),
    ("KnownEvent", "command_id"),
    ("KnownEvent", "originator_id"),
    ("Extended", "file_digest"),
    ("Extended", "seal"),
}
"""What tells of a token, a customer or the ledger. `secret`, an id of a secret, is so anywhere."""


def words_of(kind: Type, owner: str, name: str) -> Iterator[tuple[str, str]]:
    """The struct and the name of each field that holds a text, bytes or an id."""
    match kind:
        case StructType():
            for field in kind.fields:
                yield from words_of(field.type, kind.cls.__name__, field.name)
        case UnionType():
            for one in kind.types:
                yield from words_of(one, owner, name)
        case ListType() | VarTupleType():
            yield from words_of(kind.item_type, owner, name)
        case BoolType() | IntType() | DateTimeType() | NoneType():
            return
        case _:
            yield owner, name


def test_each_field_of_an_event_is_judged_to_be_about_people_or_not() -> None:
    found = {each for event in EVENTS for each in words_of(type_info(event), event.__name__, "")}
    told = {
        (owner, name)
        for name, owners in _ROW.findall(PERSONAL.read_text("utf-8"))
        for owner in owners.split(", ")
    }
    assert ("Actor", "source") in told
    assert told.isdisjoint(OF_NOBODY)
    assert {(owner, name) for owner, name in found if name != "secret"} == told | OF_NOBODY
