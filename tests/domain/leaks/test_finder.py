"""Find secrets in any bytes: each of them, at its place, and nothing that only looks like one."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.leaks.finder import Found, find_secrets
from domain.secret import Secret, SecretKind, mint

SECRET: Final = mint(SecretKind.SCIM_LIVE, bytes(range(32)))
NAMED: Final = mint(SecretKind.API_TEST, bytes(range(32)), prefix="acme")
TEXT, NAMED_TEXT = SECRET.reveal().encode(), NAMED.reveal().encode()

secrets = st.builds(
    lambda kind, entropy, prefix: mint(kind, entropy, prefix=prefix),
    st.sampled_from(SecretKind),
    st.binary(min_size=32, max_size=32),
    st.none() | st.from_regex("[a-z0-9]{2,16}", fullmatch=True),
)
around = st.lists(
    st.binary(max_size=100)
    | st.sampled_from([b"\n", b"\r\n", b" ", b"_", b"acme_", b"scim_live_", TEXT[:40], TEXT[30:]]),
    max_size=6,
).map(b"".join)


def found_in(text: bytes, size: int = 1 << 16) -> list[Found]:
    return list(find_secrets(text[place : place + size] for place in range(0, len(text), size)))


def place_of(text: bytes, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count(b"\n") + 1, offset - (before.rfind(b"\n") + 1) + 1


@pytest.mark.long
@given(st.lists(st.tuples(around, secrets), max_size=5), around, st.integers(1, 200))
@example([(b"x\n", SECRET), (b"", SECRET), (b"\n", NAMED)], b"\n", 1)
def test_every_secret_is_found_at_its_place_however_the_stream_is_cut(
    parts: list[tuple[bytes, Secret]], rest: bytes, size: int
) -> None:
    text, expected = b"", []
    for before, secret in parts:
        text += before
        expected.append((place_of(text, len(text)), secret))
        text += secret.reveal().encode()
    found = found_in(text + rest, size)
    assert [((each.line, each.column), each.secret) for each in found] == expected


@pytest.mark.parametrize(
    "glue",
    [
        lambda secret: b'{"token":"' + secret + b'"}',
        lambda secret: b"line\\n" + secret + b"\\n",
        lambda secret: b"https://example.com/?token=" + secret + b"&x=1",
        lambda secret: b"MY_" + secret + b"_OLD",
        lambda secret: secret + b"AAAA",
        lambda secret: b"\xff\xfe\x00" + secret + b"\x00\xff",
        lambda secret: b"Authorization: Bearer " + secret + b"\r\n",
        lambda secret: secret[:-1] + secret,
        lambda secret: secret[:-4] + secret,
    ],
)
@pytest.mark.parametrize("secret", [TEXT, NAMED_TEXT], ids=["bare", "prefixed"])
def test_what_stands_around_a_secret_does_not_hide_it(
    glue: Callable[[bytes], bytes], secret: bytes
) -> None:
    text = glue(secret)
    (found,) = found_in(text)
    assert found.secret.reveal().encode() == secret
    assert (found.line, found.column) == place_of(text, text.rindex(secret))


@pytest.mark.parametrize("secret", [TEXT, NAMED_TEXT], ids=["bare", "prefixed"])
def test_a_near_miss_is_not_found(secret: bytes) -> None:
    for place in range(len(secret)):
        for other in (b"0", b"_", b"\n", b" "):
            near = secret[:place] + other + secret[place + 1 :]
            if near != secret:
                assert found_in(near) == [], near
    assert found_in(secret[:-1]) == []
    assert found_in(secret.upper()) == []


def test_without_its_prefix_a_secret_is_another_text() -> None:
    assert found_in(NAMED_TEXT.removeprefix(b"acme_")) == []
    (found,) = found_in(b"acme_" + TEXT)
    assert (found.column, found.secret) == (6, SECRET)


def test_a_line_of_many_secrets_is_told_one_by_one() -> None:
    found = found_in(b",".join([TEXT] * 5000), 777)
    assert [each.column for each in found] == [1 + 60 * number for number in range(5000)]
    assert all(one.line == other.line for one, other in pairwise(found))


def test_memory_is_bounded_however_long_a_line_is() -> None:
    def stream() -> Iterator[bytes]:
        noise = random.Random(1).randbytes(1 << 16)
        for _ in range(400):
            yield noise.replace(b"\n", b" ")
        yield TEXT

    tracemalloc.start()
    try:
        (found,) = find_secrets(stream())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.line, found.column) == (1, 400 * (1 << 16) + 1)
    assert peak < 8 * (1 << 16)


def test_what_was_found_does_not_show_itself() -> None:
    assert SECRET.reveal()[12:] not in repr(found_in(TEXT))
