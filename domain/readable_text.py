"""Check text that a person chose and others read: a name, a reason. Pure.

It is kept as it was sent, so it is refused where it could not be shown as it is.
"""

import unicodedata
from typing import Final

from domain.errors import InvalidValue
from domain.kept_text import looks_like_a_secret

NO_SECRET: Final = "must not hold a secret"  # noqa: S105 - says what is wrong
_CONTROL: Final = frozenset({"Cc", "Cs"})
_OVERRIDES: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn what follows around, also what stands behind the text in a line of a log or a table."""
_UNSEEN_CATEGORIES: Final = frozenset("CZM")
"""Controls, formats, unassigned; blanks; marks, which need a letter to stand on."""
_UNSEEN: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\U00013441\U00013442\U0001d159")
"""Letters and symbols by category, and blank: the Hangul fillers, Braille without a dot, the blank
hieroglyphs (which Python knows from 3.12 on), a note without a head."""


def check_text(text: str, pointer: str, *, max_length: int) -> None:
    """Raise InvalidValue unless `text` is 1 to `max_length` characters with at least one that can
    be seen, and holds no control characters, no bidirectional overrides and nothing that looks like
    a secret of ours.

    Any script, emoji and right-to-left text is welcome, and the joiners and marks that they need;
    lone surrogates are not text.
    """
    if not 1 <= len(text) <= max_length:
        raise InvalidValue(pointer, f"must be 1 to {max_length} characters")
    if not text.strip():
        raise InvalidValue(pointer, "must not be blank")
    if not text.isprintable():  # neither control characters nor overrides are printable
        if any(unicodedata.category(character) in _CONTROL for character in text):
            raise InvalidValue(pointer, "must not hold control characters")
        if not _OVERRIDES.isdisjoint(text):
            raise InvalidValue(pointer, "must not hold bidirectional overrides")
    if not any(map(_is_seen, text)):
        raise InvalidValue(pointer, "must hold a character that can be seen")
    if looks_like_a_secret(text):
        raise InvalidValue(pointer, NO_SECRET)


def _is_seen(character: str) -> bool:
    return unicodedata.category(character)[0] not in _UNSEEN_CATEGORIES and character not in _UNSEEN
