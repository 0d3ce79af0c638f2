"""Clean text from outside before it is kept: cut secrets out, limit its length. Pure.

Whoever mistakes a field pastes a token where a name, a reason or a user agent belongs. An event is
for good, so what looks like a secret of ours is cut out, and before anything else happens to the
text: of one that is shortened first, half a secret would stay.
"""

import re
import unicodedata
from typing import Final
from urllib.parse import unquote

_PREFIX: Final = r"(?i:(scim|api)_(live|test)_)"
_BARE: Final = (
    r"(?<![0-9A-Za-z])(?=[0-9A-Za-z]{40})"
    r"(?=[A-Za-z]*[0-9])(?=[0-9A-Z]*[a-z])(?=[0-9a-z]*[A-Z])[0-9A-Za-z]+"
)
"""A run as long and as mixed as a secret without its prefix, or as one in base64:
no word and no hash is.
"""
_ANY_PART: Final = re.compile(rf"{_PREFIX}\w{{4,}}|{_BARE}", re.ASCII)
"""What is cut out: also what is left of a secret that somebody before us has cut short."""
_LIKELY: Final = re.compile(rf"{_PREFIX}\w{{20,}}|{_BARE}", re.ASCII)
"""What is refused: with as much behind it, a prefix is no name such as `api_test_environment`."""
_JOINERS: Final = frozenset("\u200c\u200d")
"""They hold emoji, and letters of some scripts, together, and turn nothing around."""
_REPLACEMENT: Final = "\ufffd"
_READ_MAX: Final = 4096
"""Many times what is kept of any text: what comes behind cannot end up in it, and costs nothing."""
_UNWRAPPINGS: Final = 3
_HARMLESS_MAX: Final = 4096
_harmless: Final[set[str]] = set()
"""Texts that are kept as they are, so that the same user agent is not read anew for each use. What
held a secret is not among them, so that none stays in memory for this.
"""


def without_secrets(text: str) -> str:
    """The text with stars for everything that looks like a secret of ours, or like a part of one.

    Looked for as it stands, and behind percent-encoding and characters that nobody sees.
    """
    unwrapped = _unwrapped(text)
    return _ANY_PART.sub(_stars, unwrapped if _ANY_PART.search(unwrapped) else text)


def looks_like_a_secret(text: str) -> bool:
    """Whether the text holds what can hardly be anything but a secret of ours."""
    return _LIKELY.search(_unwrapped(text)) is not None


def kept(text: str, *, max_length: int) -> str | None:
    """The text as we keep it: no secret, all printable, `max_length` characters at most;
    None for nothing.

    A character that is not printable (NUL, a lone surrogate, a bidirectional override, the end of a
    line) is replaced, never the whole dropped; PostgreSQL and JSON take every text that this
    returns.
    """
    if text in _harmless and len(text) <= max_length:
        return text
    plain = without_secrets(text[:_READ_MAX])[:max_length]
    if not plain.isprintable():
        plain = "".join(map(_printable, plain))
    plain = plain.strip()
    if not plain:
        return None
    if plain == text:
        if len(_harmless) >= _HARMLESS_MAX:
            _harmless.clear()
        _harmless.add(text)
    return plain


def kept_bytes(raw: bytes, *, max_length: int) -> str | None:
    """A header's value as we keep it: UTF-8 where it is that, else Latin-1 (RFC 9110 §5.5)."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return kept(text, max_length=max_length)


def _stars(found: re.Match[str]) -> str:
    return f"{found[1]}_{found[2]}_***".lower() if found[1] else "***"


def _unwrapped(text: str) -> str:
    for _ in range(_UNWRAPPINGS):
        if "%" not in text:
            break
        text = unquote(text)
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _printable(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if character == "\t" or unicodedata.category(character) == "Zs" else _REPLACEMENT
