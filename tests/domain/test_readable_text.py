"""A20: what others will read can be read, and turns nothing around; all scripts are welcome."""

import sys
import unicodedata
from typing import Final
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidValue
from domain.readable_text import check_text
from tests.domain.test_kept_text import secrets

OVERRIDES: Final = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
BLANK_LETTERS: Final = "\u115f\u1160\u2800\u3164\uffa0\U00013441\U00013442\U0001d159"
ALL: Final = [chr(code) for code in range(sys.maxunicode + 1)]


def refusal(text: str) -> str | None:
    try:
        check_text(text, "/name", max_length=255)
    except InvalidValue as refused:
        return refused.detail
    return None


@pytest.mark.long
def test_of_every_character_alone_it_is_known_whether_it_is_a_name() -> None:
    """Letters, digits, punctuation and symbols are; controls, formats, blanks and marks are not."""
    wrong = [
        f"U+{ord(character):04X}"
        for character in ALL
        if (refusal(character) is None)
        != (unicodedata.category(character)[0] in "LNPS" and character not in BLANK_LETTERS)
    ]
    assert wrong == []


unseen = st.text(
    st.characters(categories=["Cf", "Zs", "Zl", "Zp", "Mn", "Me"]) | st.sampled_from(BLANK_LETTERS),
    min_size=1,
    max_size=255,
)
seen = st.characters(categories=["L", "N", "P", "S"], exclude_characters=BLANK_LETTERS)
joining = st.text(st.sampled_from("\u200c\u200d\u200e\u200f\ufe0f\u0301 ") | seen, max_size=100)


@given(unseen)
def test_what_nobody_sees_is_no_name(text: str) -> None:
    assert refusal(text) is not None


@given(before=joining, letter=seen, after=joining)
def test_one_character_that_is_seen_is_enough(before: str, letter: str, after: str) -> None:
    assert refusal(before + letter + after) is None


@given(before=joining, override=st.sampled_from(OVERRIDES), after=joining)
def test_an_override_is_refused_wherever_it_stands(before: str, override: str, after: str) -> None:
    assert refusal(f"a{before}{override}{after}") == "must not hold bidirectional overrides"


@pytest.mark.parametrize(
    "text",
    [
        "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    ],
)
def test_joiners_stay(text: str) -> None:
    assert refusal(text) is None


@given(before=joining, secret=secrets, times=st.integers(0, 3), after=joining)
def test_a_secret_is_refused_wherever_it_stands(
    before: str, secret: str, times: int, after: str
) -> None:
    for _ in range(times):
        secret = quote(secret).replace("_", "%5F")
    with pytest.raises(InvalidValue) as refused:
        check_text(f"{before} {secret} {after}", "/name", max_length=1000)
    assert (refused.value.pointer, refused.value.detail) == ("/name", "must not hold a secret")
    assert secret not in str(refused.value)
