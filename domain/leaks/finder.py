"""Find secrets in any stream of bytes, by their format and checksum alone. Pure.

What stands around a secret says nothing: it may be glued to an escaped newline
(`\\nacme_scim_…`), to another secret, or to the rest of one that was cut short. So each place where
a kind and 49 base62 characters stand is a candidate, with each prefix that could stand before it;
the checksum tells which is one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from domain.secret import (
    BODY_LENGTH,
    BODY_PATTERN,
    CHECKSUM_LENGTH,
    PREFIX_PATTERN,
    MalformedSecretError,
    Secret,
    SecretKind,
    parse,
)

PREFIX_ROOM: Final = 17
"""Bytes before a kind that may belong to the secret: a prefix of 16 and its underscore."""
_KIND: Final = re.compile(rf"(?:{'|'.join(SecretKind)})(?={BODY_PATTERN})".encode())
_BEHIND_KIND: Final = BODY_LENGTH + CHECKSUM_LENGTH
_WHOLE: Final = max(map(len, SecretKind)) + _BEHIND_KIND
_PREFIX: Final = re.compile(rf"{PREFIX_PATTERN}_\Z".encode())
_SHORTEST_PREFIX: Final = 3


class Found(msgspec.Struct, frozen=True):
    """A secret at its place. line, column: from 1; a column is a byte, and a line ends with LF."""

    line: int
    column: int
    secret: Secret


def find_secrets(chunks: Iterable[bytes]) -> Iterator[Found]:
    """Every secret in the stream, in its order.

    Holds one chunk and less than a secret before it in memory, however long a line is.
    """
    window, searched, line, column = b"", 0, 1, 1
    for chunk in chunks:
        window += chunk
        place = 0
        # What begins so late that its end may be in the next chunk is searched again with it.
        undecided = len(window) - _WHOLE + 1
        for kind in _KIND.finditer(window, searched):
            searched = kind.end()
            start, secret = _secret_at(window, kind)
            if secret is not None:
                line, column = _moved(line, column, window[place:start])
                place = start
                yield Found(line, column, secret)
        searched = max(searched, undecided, 0)
        kept_from = max(searched - PREFIX_ROOM, place)
        line, column = _moved(line, column, window[place:kept_from])
        window, searched = window[kept_from:], searched - kept_from


def _secret_at(window: bytes, kind: re.Match[bytes]) -> tuple[int, Secret | None]:
    """Where the secret of this kind begins, and the secret; None where no checksum is right."""
    before = window[max(kind.start() - PREFIX_ROOM, 0) : kind.start()]
    longest = _PREFIX.search(before)
    room = 0 if longest is None else len(longest[0])
    for length in (0, *range(_SHORTEST_PREFIX, room + 1)):
        start = kind.start() - length
        try:
            return start, parse(window[start : kind.end() + _BEHIND_KIND].decode("ascii"))
        except MalformedSecretError:
            continue
    return kind.start(), None


def _moved(line: int, column: int, passed: bytes) -> tuple[int, int]:
    """The place behind what was passed."""
    lines = passed.count(b"\n")
    return line + lines, len(passed) - passed.rfind(b"\n") if lines else column + len(passed)
