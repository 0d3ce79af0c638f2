"""What becomes of text from outside before it is kept (A9, A10):
no secret in it, all of it printable.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Container
from typing import Final
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.kept_text import kept, kept_bytes, looks_like_a_secret, without_secrets
from domain.secret import BODY_LENGTH, CHECKSUM_LENGTH, SecretKind, mint
from tests.turns import by_turns

MAX: Final = 200
PIECE: Final = 20
"""Of a secret no more than this in a row may stay: it has 43 characters that nobody can guess."""

KIND: Final = "|".join(SecretKind)
secrets = st.builds(
    lambda kind, entropy, prefix: mint(kind, entropy, prefix=prefix).reveal(),
    st.sampled_from(SecretKind),
    st.binary(min_size=32, max_size=32),
    st.none() | st.from_regex("[a-z0-9]{2,16}", fullmatch=True),
)
WAYS: Final[dict[str, Callable[[str], str]]] = {
    "as it is": str,
    "its prefix in capitals": lambda secret: secret[:10].upper() + secret[10:],
    "percent-encoded": lambda secret: "".join(f"%{ord(character):02X}" for character in secret),
    "percent-encoded twice": lambda secret: quote(
        "".join(f"%{ord(character):02x}" for character in secret)
    ),
    "an invisible character in it": lambda secret: f"{secret[:30]}\u200b{secret[30:]}",
    "a NUL in its prefix": lambda secret: f"{secret[:6]}\x00{secret[6:]}",
    "behind a prefix": lambda secret: f"scim_live_{secret}",
    "twice": lambda secret: secret * 2,
    "cut short": lambda secret: secret[:-24],
    "of a basic authentication": lambda secret: b64encode(f"user:{secret}".encode()).decode(),
}
around = st.text(max_size=300) | st.integers(100, 260).map("x".__mul__)


def pieces_left(text: Container[str] | None, secret: str) -> list[str]:
    """What of a secret can be read from a text, or is among the pieces of one."""
    own = re.sub(f"^[a-z0-9]+_(?={KIND})", "", secret)  # the issuer's prefix is public
    shapes = (own, b64encode(f"user:{secret}".encode()).decode())
    cuts = (
        shape[start : start + PIECE] for shape in shapes for start in range(len(shape) - PIECE + 1)
    )
    return [cut for cut in cuts if cut in (text or "")]


def pieces_of(text: str) -> set[str]:
    """All that are as long as one that must not be left: for many secrets and one long text."""
    return {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)}


@pytest.mark.parametrize("way", by_turns(WAYS, one_of=3))
@given(before=around, secret=secrets, after=around)
def test_of_a_secret_nothing_is_kept_wherever_it_stands(
    way: str, before: str, secret: str, after: str
) -> None:
    text = f"{before}{WAYS[way](secret)}{after}"
    assert pieces_left(kept(text, max_length=MAX), secret) == []


@given(room=st.integers(0, MAX), secret=secrets.filter(re.compile(KIND).match))
def test_planted_cutting_the_text_before_the_secret_would_be_found(room: int, secret: str) -> None:
    text = "x" * room + " " + secret
    cut_first = text[:MAX]
    assert bool(pieces_left(cut_first, secret)) is (MAX - room - 1 >= PIECE)
    assert pieces_left(kept(text, max_length=MAX), secret) == []


@given(secret=secrets, length=st.integers(4, 49))
def test_what_is_left_of_one_that_was_cut_short_is_cut_out_too(secret: str, length: int) -> None:
    prefix, separator, body = secret.rpartition("_")
    cut = f"Okta {prefix}{separator}{body[:length]}"
    assert kept(cut, max_length=MAX) == f"Okta {prefix}{separator}***"


@given(secret=secrets, times=st.integers(0, 3))
def test_it_is_cut_out_however_often_it_was_percent_encoded(secret: str, times: int) -> None:
    text = f"Okta {secret}"
    for _ in range(times):
        text = quote(text).replace("_", "%5F")
    assert kept(text, max_length=MAX) == f"Okta {secret[: -BODY_LENGTH - CHECKSUM_LENGTH]}***"


def test_what_is_remembered_is_cut_to_the_length_that_is_asked_for() -> None:
    for max_length in (150, 100, 150):
        assert kept("y" * 150, max_length=max_length) == "y" * max_length


@given(secret=secrets, before=around)
def test_without_its_prefix_it_is_no_word_either(secret: str, before: str) -> None:
    body = f"{before} {secret[10:]}"
    if any(character.isdigit() for character in secret[10:]):  # one of six thousand has no digit
        assert pieces_left(kept(body, max_length=MAX), secret) == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Okta scim_live_abc123def456ghi789 1.0", "Okta scim_live_*** 1.0"),
        ("API_TEST_abcd", "api_test_***"),
        ("a scim_live_ token", "a scim_live_ token"),
        ("x=%73cim_live_abc123def456", "x=scim_live_***"),
        (f"Okta {'Ab1' * 15} 1.0", "Okta *** 1.0"),
    ],
)
def test_stars_say_what_was_cut_out(text: str, left: str) -> None:
    assert without_secrets(text) == left


@pytest.mark.parametrize(
    "agent",
    [
        "Okta SCIM Client 1.0.0",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0",
        "AzureActiveDirectoryProvisioningServiceConnectorAgentForApplications/1.0",
        "scim/5d41402abc4b2a76b9719d911017c592aabbccdd",
        "idp 0b0c2f0e-9d0c-4a53-8d1f-0f6f7d1c3c11",
        "José de las Nieves",
        "プロビジョニング",
        "ידע",
        "Okta 🚀 👩🏽\u200d💻",
        "100% scim",
        "x" * MAX,
    ],
)
def test_a_name_is_kept_as_it_is_from_utf_8(agent: str) -> None:
    for _ in range(2):  # read, then remembered
        assert kept(agent, max_length=MAX) == kept_bytes(agent.encode(), max_length=MAX) == agent
        assert not looks_like_a_secret(agent)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("José".encode("latin-1"), "José"),
        (b"\x80", "\ufffd"),
        (b"Okta\x80", "Okta\ufffd"),
        (b"\xed\xa0\x80 lone", "í \ufffd lone"),  # a surrogate in UTF-8 is not UTF-8
        (b"a\x00b\rc\nd\x7f", "a\ufffdb\ufffdc\ufffdd\ufffd"),
        ("a\u202eb\u2066c\u2028d\ufeff".encode(), "a\ufffdb\ufffdc\ufffdd\ufffd"),
        ("a\tb\u00a0c".encode(), "a b c"),
        (b"", None),
        (b" \t ", None),
        (b"x" * 500, "x" * MAX),
        (("é" * 500).encode(), "é" * MAX),
    ],
)
def test_bytes_are_utf_8_or_latin_1_and_what_nobody_can_print_is_replaced(
    raw: bytes, text: str | None
) -> None:
    assert kept_bytes(raw, max_length=MAX) == text


@given(st.text(st.characters(), max_size=300))
@example("\ud800")
@example("\x00" * 300)
@example("\u200d")
def test_whatever_comes_is_kept_as_text_that_everybody_takes(text: str) -> None:
    left = kept(text, max_length=MAX)
    if left is None:
        assert not text.strip(" \t") or not any(
            character.isprintable() for character in text.strip()
        )
        return
    assert 1 <= len(left) <= MAX
    assert left.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert left.encode()


@given(st.binary(max_size=300))
@example(b"\xa0")
@example(b"\xe3\x80\x80")
def test_whatever_bytes_come_are_not_dropped(raw: bytes) -> None:
    try:
        meant = raw.decode()
    except UnicodeDecodeError:
        meant = raw.decode("latin-1")
    assert kept_bytes(raw, max_length=MAX) is not None or not meant.strip()


def test_what_held_a_secret_is_not_remembered() -> None:
    secret = mint(SecretKind.SCIM_LIVE, bytes(range(32))).reveal()
    kept(f"Okta {secret}", max_length=MAX)
    assert not any(pieces_left(text, secret) for text in remembered())


def test_what_is_remembered_is_bounded() -> None:
    for number in range(10_000):
        kept(f"agent {number}", max_length=MAX)
    assert len(remembered()) <= 4096


def remembered() -> set[str]:
    from domain import kept_text  # noqa: PLC0415

    return kept_text._harmless


@given(
    secrets,
    st.text(max_size=50),
    st.sampled_from(["as it is", "percent-encoded", "twice", "cut short"]),
)
def test_a_text_that_is_refused_rather_than_changed_holds_a_likely_secret(
    secret: str, around: str, way: str
) -> None:
    assert looks_like_a_secret(f"{around}{WAYS[way](secret)}{around}")


@pytest.mark.parametrize(
    "name", ["api_test_environment", "scim_live_", "scim_live_production", "Okta", "x" * 255]
)
def test_a_name_is_not_taken_for_a_secret(name: str) -> None:
    assert not looks_like_a_secret(name)
