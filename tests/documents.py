"""Scripts that a document tells its reader to run."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_BLOCK: Final = re.compile(r"^```sh (?P<words>[a-z ]+)\n(?P<script>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(word: str, *, document: str = "README.md") -> list[str]:
    """The scripts of a document that are marked with a word, in order."""
    text = (ROOT / document).read_text("utf-8")
    return [found["script"] for found in _BLOCK.finditer(text) if word in found["words"].split()]
