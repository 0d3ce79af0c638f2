"""What is told when the embedded server cannot be used."""

import re
from typing import Final

_REASON: Final = re.compile(r"\b(?:FATAL|PANIC|error):\s*(.*)")


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be used: a line that says why and what the server gave as its
    reason, then what it last said."""

    def __init__(self, sentence: str, output: str = "") -> None:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        reasons = [found[1] for line in lines if (found := _REASON.search(line))]
        super().__init__("\n".join([" ".join([sentence, *(reasons or lines)[-1:]]), *lines[-15:]]))
