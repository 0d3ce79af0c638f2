"""A Containerfile as its stages, each a list of instructions, and what a builder does with them."""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.installation.wheel import ROOT


class Instruction(NamedTuple):
    """word: such as RUN. rest: what follows, on one line."""

    word: str
    rest: str

    @property
    def argv(self) -> list[str]:
        """Of one in exec form; one in shell form is none of ours: it would need a shell."""
        found = json.loads(self.rest[self.rest.index("[") :])
        assert all(isinstance(each, str) for each in found)
        return list(found)


def stages(path: Path) -> list[list[Instruction]]:
    """Each begins with its FROM."""
    found: list[list[Instruction]] = []
    text = re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Instruction(word, rest.strip()))
    return found


def only(stage: Sequence[Instruction], word: str) -> Instruction:
    (found,) = (each for each in stage if each.word == word)
    return found


def environment(stage: Sequence[Instruction]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in only(stage, "ENV").rest.split())


def sources(stage: Sequence[Instruction]) -> Iterator[tuple[list[str], str]]:
    """What a stage copies out of the checkout, and where to."""
    for each in stage:
        if each.word == "COPY" and not each.rest.startswith("--from"):
            *names, target = each.rest.split()
            yield names, target


def copied(stage: Sequence[Instruction], into: Path, names: Sequence[str]) -> None:
    """Do what COPY does, with the tracked files alone. names: of those."""
    for given, target in sources(stage):
        for name in names:
            for source in given:
                inside = name == source or name.startswith(f"{source}/")
                if inside:
                    rest = name.removeprefix(source).strip("/")
                    to = into / target / (rest or source)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, to)
