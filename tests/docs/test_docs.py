"""The reference names what there is, and nothing else."""

import re
from pathlib import Path

import msgspec

from api.resources.audit.text import COLUMNS
from api.settings import Settings
from domain.eventstore.event_registry import REGISTRY
from tests.docs.documents import RUN_BY, all_blocks

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_setting_is_in_the_reference_and_no_other() -> None:
    text = (DOCS / "reference" / "settings.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE))
    assert documented == {field.encode_name for field in msgspec.structs.fields(Settings)}


def test_every_default_of_a_setting_is_the_one_in_the_reference() -> None:
    text = (DOCS / "reference" / "settings.md").read_text("utf-8")
    cells = re.findall(r"^\| `([A-Z_]+)` \|.*\| ([^|]*) \|$", text, re.MULTILINE)
    for name, told in cells:
        default = getattr(Settings(), name.lower())
        if default in {None, ""}:
            assert told.startswith(("\N{EN DASH}", "none", "the ", "made ", "`~")), name
        elif isinstance(default, bool):
            assert told == str(default).lower(), name
        else:
            assert told == (f"{default:g}" if isinstance(default, float) else str(default)), name


def test_every_column_of_the_trail_is_in_the_reference_in_its_order() -> None:
    text = (DOCS / "reference" / "audit-trail.md").read_text("utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == list(COLUMNS)


def test_every_event_is_in_the_reference_and_no_other() -> None:
    text = (DOCS / "reference" / "events.md").read_text("utf-8")
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+\.v\d+)`", text)) == REGISTRY.topics


def documents() -> list[Path]:
    root = DOCS.parent
    return [
        *root.glob("*.md"),
        *root.glob("*/README.md"),
        *DOCS.rglob("*.md"),
        *root.glob("deploy/**/*.md"),
    ]


def test_every_command_that_a_document_tells_is_run_by_a_test() -> None:
    """C9: a how-to that nobody runs is wrong after a while."""
    found = {
        (str(document.relative_to(DOCS.parent)), word)
        for document in documents()
        for words, _ in all_blocks(document)
        for word in words[:1] or ["no word"]
    }
    assert found == {(document, word) for document, words in RUN_BY.items() for word in words}
    for document, words in RUN_BY.items():
        for word, test in words.items():
            assert f'"{word}"' in (DOCS.parent / test).read_text("utf-8"), f"{document}: {word}"


def test_every_picture_of_the_console_is_shown_and_has_words_for_who_cannot_see_it() -> None:
    pictures = {path.name for path in (DOCS / "pictures").iterdir()}
    shown = {
        Path(target).name: words
        for page in documents()
        for words, target in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    assert pictures
    assert pictures <= shown.keys()
    assert all(len(words) > 20 for words in shown.values())


def test_every_link_between_the_documents_leads_somewhere() -> None:
    root = DOCS.parent
    for page in documents():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(root)}: {target}"


def test_a_call_that_fails_says_so() -> None:
    """Nothing is what a revocation prints that was done: one that was refused must look unlike."""
    calls = [
        (page.name, options)
        for page in documents()
        for options in re.findall(r"\bcurl -(\w+)", page.read_text("utf-8"))
    ]
    assert calls
    assert [call for call in calls if {*"sf"} <= {*call[1]} and "S" not in call[1]] == []
