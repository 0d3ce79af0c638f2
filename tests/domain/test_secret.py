"""The bearer secret: its format, its digest, and that it shows itself nowhere."""

import copy
import hashlib
import hmac
import io
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from zlib import crc32

import msgspec
import pytest
import structlog
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.secret import (
    SECRET_PATTERN,
    MalformedSecretError,
    Pepper,
    Secret,
    SecretKind,
    is_prefix,
    mint,
    parse,
)

OLD_KEY, NEW_KEY = b"the older of two deployment keys", b"the newer of two deployment keys"
SECRET = mint(SecretKind.SCIM_LIVE, bytes(range(32)))
PEPPER = Pepper([OLD_KEY, NEW_KEY])
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

kinds = st.sampled_from(SecretKind)
entropies = st.binary(min_size=32, max_size=32)
secrets = st.builds(mint, kinds, entropies)


class TestFormat:
    def test_a_known_secret_has_its_known_text(self) -> None:
        assert SECRET.reveal() == "scim_live_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3CISAC"

    @given(kinds, entropies)
    def test_what_was_minted_is_parsed_to_the_same_secret(
        self, kind: SecretKind, entropy: bytes
    ) -> None:
        minted = mint(kind, entropy)
        parsed = parse(minted.reveal())
        assert parsed == minted
        assert (parsed.reveal(), parsed.kind) == (minted.reveal(), kind)

    @given(secrets)
    def test_a_secret_has_a_fixed_length_and_matches_the_published_pattern(
        self, secret: Secret
    ) -> None:
        text = secret.reveal()
        assert len(text) == (59 if text.startswith("scim_") else 58)
        assert re.fullmatch(SECRET_PATTERN, text)
        assert re.search(SECRET_PATTERN, f'{{"token": "{text}"}}')

    @given(entropies)
    def test_a_secret_carries_all_of_its_entropy(self, entropy: bytes) -> None:
        number = 0
        for character in mint(SecretKind.SCIM_LIVE, entropy).reveal()[10:53]:
            number = number * 62 + BASE62.index(character)
        assert number.to_bytes(32, "big") == entropy

    @given(kinds, entropies, entropies)
    def test_other_entropy_makes_another_secret(
        self, kind: SecretKind, one: bytes, other: bytes
    ) -> None:
        assert (mint(kind, one) == mint(kind, other)) == (one == other)

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_a_secret_is_never_minted_from_too_little_or_too_much(self, size: int) -> None:
        with pytest.raises(ValueError, match="32 bytes"):
            mint(SecretKind.SCIM_LIVE, bytes(size))

    @given(secrets, st.data())
    def test_any_change_of_one_character_is_refused(
        self, secret: Secret, data: st.DataObject
    ) -> None:
        text = secret.reveal()
        place = data.draw(st.integers(0, len(text) - 1))
        character = data.draw(st.sampled_from(BASE62 + "_- é") | st.characters())
        assume(character != text[place])
        with pytest.raises(MalformedSecretError):
            parse(text[:place] + character + text[place + 1 :])

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: text + "\n",
            lambda text: " " + text,
            lambda text: text[:-1],
            lambda text: text + "0",
            lambda text: text.upper(),
            lambda text: text.replace("live", "test"),
            lambda text: text.replace("0", "\N{FULLWIDTH DIGIT ZERO}"),
            lambda text: text.removeprefix("scim_live_"),
            lambda text: text + text,
            lambda _: "",
        ],
    )
    def test_what_is_almost_a_secret_is_refused(self, spoil: Callable[[str], str]) -> None:
        with pytest.raises(MalformedSecretError):
            parse(spoil(SECRET.reveal()))

    @given(st.text(min_size=1) | st.from_regex(SECRET_PATTERN, fullmatch=True))
    def test_other_text_is_refused_with_the_same_words_whatever_it_was(self, text: str) -> None:
        with pytest.raises(MalformedSecretError) as caught:
            parse(text)
        assert caught.value.args == ("not a secret of this service",)
        assert str(caught.value) == "not a secret of this service"
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


class TestPrefix:
    @given(kinds, entropies, st.from_regex("[a-z0-9]{2,16}", fullmatch=True))
    def test_a_secret_begins_with_its_issuers_prefix_and_is_parsed(
        self, kind: SecretKind, entropy: bytes, prefix: str
    ) -> None:
        minted = mint(kind, entropy, prefix=prefix)
        assert minted.reveal().startswith(f"{prefix}_{kind}")
        assert re.fullmatch(SECRET_PATTERN, minted.reveal())
        assert (parse(minted.reveal()), parse(minted.reveal()).kind) == (minted, kind)

    @given(kinds, entropies)
    def test_a_prefix_that_is_a_part_of_a_kind_is_a_prefix(
        self, kind: SecretKind, entropy: bytes
    ) -> None:
        for prefix in ("scim", "api", "live", "test"):
            assert parse(mint(kind, entropy, prefix=prefix).reveal()).kind == kind

    def test_the_checksum_covers_the_prefix(self) -> None:
        text = mint(SecretKind.SCIM_LIVE, bytes(32), prefix="acme").reveal()
        for other in (text.removeprefix("acme_"), f"acne{text[4:]}", f"x{text}"):
            with pytest.raises(MalformedSecretError):
                parse(other)
        with pytest.raises(MalformedSecretError):
            parse(f"acme_{SECRET.reveal()}")

    @pytest.mark.parametrize(
        "prefix", ["", "a", "a" * 17, "Acme", "ac_me", "ac-me", "acmé", "acme\n", "٣٣"]
    )
    def test_what_is_no_prefix_is_neither_minted_nor_read(self, prefix: str) -> None:
        assert not is_prefix(prefix)
        with pytest.raises(ValueError, match="prefix"):
            mint(SecretKind.SCIM_LIVE, bytes(32), prefix=prefix)
        body = f"{prefix}_{SECRET.reveal()[:-6]}"
        with pytest.raises(MalformedSecretError):
            parse(body + base62(crc32(body.encode()), 6))


def base62(number: int, length: int) -> str:
    characters = ""
    for _ in range(length):
        number, value = divmod(number, 62)
        characters = BASE62[value] + characters
    return characters


class TestDigest:
    @given(secrets)
    def test_a_digest_is_the_hmac_of_the_whole_text_under_the_newest_key(
        self, secret: Secret
    ) -> None:
        expected = hmac.new(NEW_KEY, secret.reveal().encode(), hashlib.sha256).digest()
        digest = PEPPER.digest(secret)
        assert (digest.value, digest.key_generation) == (expected, 2)

    def test_a_known_secret_has_its_known_digest(self) -> None:
        assert (
            Pepper([b"k" * 32]).digest(SECRET).value.hex()
            == "8fdb8739caee05cb549cfc6a5985b74f22100c5dd52d4c09e36b8d95907082fa"
        )

    def test_candidates_are_tried_newest_key_first(self) -> None:
        older, newer = Pepper([OLD_KEY]), Pepper([NEW_KEY])
        assert PEPPER.candidates(SECRET) == [newer.digest(SECRET).value, older.digest(SECRET).value]

    @given(secrets)
    def test_a_secret_digested_before_the_key_was_rotated_is_still_found(
        self, secret: Secret
    ) -> None:
        stored = Pepper([OLD_KEY]).digest(secret)
        assert stored.key_generation == 1
        assert stored.value in PEPPER.candidates(parse(secret.reveal()))

    def test_another_deployment_does_not_find_it(self) -> None:
        assert Pepper([b"k" * 32]).digest(SECRET).value not in PEPPER.candidates(SECRET)

    @given(secrets, secrets)
    def test_other_secrets_have_other_digests(self, one: Secret, other: Secret) -> None:
        assert (PEPPER.digest(one) == PEPPER.digest(other)) == (one == other)

    def test_a_derived_key_survives_a_rotation_and_differs_by_purpose(self) -> None:
        older, newer = Pepper([OLD_KEY]), Pepper([NEW_KEY])
        assert PEPPER.derived("cursor") == newer.derived("cursor") + older.derived("cursor")
        assert not {*PEPPER.derived("cursor")} & {*PEPPER.derived("other")}

    def test_a_derived_key_never_changes(self) -> None:
        """Another text under the HMAC, and every cursor that a client holds
        dies with the upgrade.
        """
        derived = Pepper([b"0123456789abcdef0123456789abcdef", NEW_KEY]).derived("cursor")[-1]
        assert derived.hex() == "071f0894fc0d6fceac1015c6d572ecd97e76cf0b7f5bee4f045baaf1206473f9"

    def test_a_fingerprint_is_of_its_key_alone_and_never_changes(self) -> None:
        """Every ledger holds them: another text under the HMAC, and no service starts any more."""
        assert [fingerprint.hex() for fingerprint in PEPPER.fingerprints if fingerprint] == [
            "3e5b2686a4c8a1f7dbd7ea7228275f46",
            "6ee598bfbcf33f68387a62d2676b459d",
        ]
        assert Pepper([NEW_KEY]).fingerprints == PEPPER.fingerprints[1:]
        assert Pepper([None, NEW_KEY]).fingerprints == [None, *PEPPER.fingerprints[1:]]

    def test_a_pepper_without_a_retired_key_does_the_rest_alike(self) -> None:
        without = Pepper([None, NEW_KEY])
        assert without.digest(SECRET) == PEPPER.digest(SECRET)
        assert without.candidates(SECRET) == PEPPER.candidates(SECRET)[:1]
        assert without.derived("cursor") == PEPPER.derived("cursor")[:1]

    @pytest.mark.parametrize("keys", [[None], [NEW_KEY, None]])
    def test_the_newest_key_is_there(self, keys: list[bytes | None]) -> None:
        with pytest.raises(ValueError, match="its newest"):
            Pepper(keys)

    @pytest.mark.parametrize("keys", [[], [b"k" * 31], [b"k" * 32, b""]])
    def test_a_pepper_without_a_long_key_is_refused(self, keys: list[bytes]) -> None:
        with pytest.raises(ValueError, match="pepper"):
            Pepper(keys)


@dataclass(frozen=True)
class Holder:
    """Somebody's data class with a secret in it."""

    secret: object


class TrapError(Exception):
    """Somebody's exception with a secret in its arguments."""


def shown_in_a_traceback(held: object) -> str:
    def fail(held: object) -> None:
        raise TrapError("went wrong", held)

    try:
        fail(held)
    except TrapError as error:
        return "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
    raise AssertionError


def shown_in_logging(held: object) -> str:
    stream = io.StringIO()
    logger = logging.Logger("a logger of its own")  # noqa: LOG001 - leaves no trace in the tree of loggers
    logger.addHandler(logging.StreamHandler(stream))
    logger.error("held %s %r", held, {"secret": held}, extra={"held": held})
    return stream.getvalue()


def shown_in_structlog(held: object) -> str:
    stream = io.StringIO()
    for renderer in (
        structlog.processors.JSONRenderer(),
        structlog.processors.KeyValueRenderer(),
        structlog.dev.ConsoleRenderer(colors=False),
    ):
        logger = structlog.wrap_logger(structlog.PrintLogger(stream), processors=[renderer])
        logger.error("held", secret=held, nested={"secret": [held]})
    return stream.getvalue()


WAYS_TO_SHOW: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "f-string": lambda held: f"{held} {held!r} {held!a} {held!s:>80}",
    "format": lambda held: format(held) + "{}{!r:<80}".format(held, held),  # noqa: UP032 - one of the ways
    "percent": lambda held: "%s %r %a" % (held, held, held),  # noqa: UP031 - one of the ways
    "container": lambda held: repr([held, (held,), {"secret": held}, {held: 1}]),
    "dataclass": lambda held: repr(Holder(held)) + str(Holder(held)),
    "exception": lambda held: repr(TrapError(held)) + str(TrapError("at", held)),
    "traceback": shown_in_a_traceback,
    "json with a default": lambda held: json.dumps({"secret": held}, default=str),
    "msgspec with a hook": lambda held: msgspec.json.encode(held, enc_hook=repr).decode(),
    "logging": shown_in_logging,
    "structlog": shown_in_structlog,
}

WAYS_OUT: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "oldest pickle": partial(pickle.dumps, protocol=0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "asdict": lambda held: asdict(Holder(held)),
    "json": json.dumps,
    "msgspec json": msgspec.json.encode,
    "msgspec msgpack": msgspec.msgpack.encode,
}


class TestSilence:
    @pytest.mark.parametrize("way", WAYS_TO_SHOW)
    def test_a_secret_shows_its_kind_and_nothing_else(self, way: str) -> None:
        shown = WAYS_TO_SHOW[way](SECRET)
        assert "scim_live_***" in shown
        assert not holds_a_part_of(SECRET.reveal().removeprefix("scim_live_"), shown)

    @pytest.mark.parametrize("way", WAYS_TO_SHOW)
    def test_a_pepper_shows_how_many_keys_it_has_and_nothing_else(self, way: str) -> None:
        shown = WAYS_TO_SHOW[way](PEPPER)
        assert "Pepper(generations=2)" in shown
        for key in (OLD_KEY, NEW_KEY):
            assert not holds_a_part_of(key.decode(), shown)
            assert not holds_a_part_of(key.hex(), shown)

    @pytest.mark.parametrize("way", WAYS_OUT)
    @pytest.mark.parametrize("held", [SECRET, PEPPER], ids=["secret", "pepper"])
    def test_neither_leaves_its_process(self, way: str, held: object) -> None:
        with pytest.raises(TypeError) as caught:
            WAYS_OUT[way](held)
        assert not holds_a_part_of(SECRET.reveal().removeprefix("scim_live_"), str(caught.value))

    def test_a_secret_has_no_attributes_to_dump(self) -> None:
        assert not hasattr(SECRET, "__dict__")

    def test_a_secret_does_not_equal_its_text(self) -> None:
        assert SECRET.reveal() != SECRET

    def test_equal_secrets_have_equal_hashes_that_tell_only_the_kind(self) -> None:
        other = mint(SecretKind.SCIM_LIVE, bytes(32))
        assert hash(SECRET) == hash(parse(SECRET.reveal())) == hash(other)

    def test_this_check_notices_a_secret_that_shows_itself(self) -> None:
        class Loud(Secret):
            def __repr__(self) -> str:
                return f"scim_live_***{self.reveal()[-8:]}"

        loud = Loud(SECRET.reveal(), SecretKind.SCIM_LIVE)
        for show in WAYS_TO_SHOW.values():
            assert holds_a_part_of(SECRET.reveal().removeprefix("scim_live_"), show(loud))


def holds_a_part_of(hidden: str, shown: str) -> bool:
    """Whether any eight characters of `hidden` in a row are in `shown`."""
    return any(hidden[place : place + 8] in shown for place in range(len(hidden) - 7))
