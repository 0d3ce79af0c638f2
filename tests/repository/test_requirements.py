"""The pinned files install with the pip that a fresh machine has (Python 3.11 and Debian 12 bring
23.x).

To that pip `name` and `name[extra]` are two requirements. Where a package asks for an extra, a pin
of the bare name alone makes it take the newest release there is, which it then refuses: that one
has no hash.
"""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = (
    "requirements.txt",
    "requirements-dev.txt",
    "requirements-docs.txt",
    "requirements-gateways.txt",
    "requirements-ha.txt",
    "requirements-leaks.txt",
    "requirements-traces.txt",
)
Pins = Mapping[tuple[str, frozenset[str]], str]


def pins(text: str) -> Pins:
    """Name and extras to version, of each pin that has a hash."""
    found: dict[tuple[str, frozenset[str]], str] = {}
    for block in re.split(r"\n(?=\S)", text.replace("\\\n", " ")):
        requirement = Requirement(block.partition("--hash")[0].strip())
        assert "--hash=sha256:" in block, requirement
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        found[canonicalize_name(requirement.name), frozenset(requirement.extras)] = (
            specifier.version
        )
    return found


def asked_with_extras(pinned: Pins) -> set[tuple[str, frozenset[str]]]:
    """What the pinned packages, as far as they are installed here,
    ask for with an extra on this machine.
    """
    asked: set[tuple[str, frozenset[str]]] = set()
    for name, extras in pinned:
        try:
            wanted = requires(name) or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, wanted):
            is_asked = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}
            )
            if requirement.extras and is_asked:
                asked.add((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return asked


def unpinned(text: str) -> set[tuple[str, frozenset[str]]]:
    """What pip 23 would look for on its own."""
    pinned = pins(text)
    with_extras = asked_with_extras(pinned) | {key for key in pinned if key[1]}
    return {
        key for name, extras in with_extras for key in ((name, extras), (name, frozenset[str]()))
    } - set(pinned)


@pytest.mark.parametrize("file", FILES)
def test_an_extra_is_pinned_beside_its_package(file: str) -> None:
    """D1."""
    assert unpinned((ROOT / file).read_text("utf-8")) == set()


@pytest.mark.parametrize("file", FILES)
def test_both_pins_of_a_package_name_one_version(file: str) -> None:
    pinned = pins((ROOT / file).read_text("utf-8"))
    assert {version == pinned[name, frozenset()] for (name, _), version in pinned.items()} == {True}


def test_a_pin_of_the_extra_alone_is_noticed() -> None:
    assert unpinned("psycopg[pool]==3.3.9 \\\n    --hash=sha256:0\n") == {("psycopg", frozenset())}
