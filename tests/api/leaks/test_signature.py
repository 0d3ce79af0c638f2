"""GitHub's signatures, by the vectors that its documentation publishes."""

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

import pytest

from api.resources.leaks.signature import read_keys
from api.settings import SettingsError
from tests.api.leaks.published import (
    BODY,
    KEY,
    KEY_ID,
    OLDER_BODY,
    OLDER_KEY,
    OLDER_KEY_ID,
    OLDER_SIGNATURE,
    SIGNATURE,
    keys_file,
)

pytest.importorskip("cryptography", reason="pip install -r requirements-leaks.txt")

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.turns import by_turns


def test_the_published_vectors_are_good(tmp_path: Path) -> None:
    keys = read_keys(keys_file(tmp_path, **{KEY_ID: KEY, OLDER_KEY_ID: OLDER_KEY}))
    assert keys.is_good(BODY, key_id=KEY_ID, signature=SIGNATURE)
    assert keys.is_good(OLDER_BODY, key_id=OLDER_KEY_ID, signature=OLDER_SIGNATURE)


@pytest.mark.parametrize(
    ("body", "key_id", "signature"),
    [
        (BODY + b"\n", KEY_ID, SIGNATURE),
        (BODY.replace(b"some_token", b"some_tokem"), KEY_ID, SIGNATURE),
        (json.dumps(json.loads(BODY)).encode(), KEY_ID, SIGNATURE),
        (b"", KEY_ID, SIGNATURE),
        (BODY, OLDER_KEY_ID, SIGNATURE),
        (BODY, KEY_ID, OLDER_SIGNATURE),
        (BODY, KEY_ID.upper(), SIGNATURE),
        (BODY, "", SIGNATURE),
        (BODY, KEY_ID, ""),
        (BODY, KEY_ID, "é"),
        (BODY, KEY_ID, SIGNATURE[:-4]),
        (BODY, KEY_ID, f" {SIGNATURE}"),
        (BODY, KEY_ID, b64encode(b64decode(SIGNATURE) + b"\0").decode()),
        (BODY, KEY_ID, b64encode(bytes(72)).decode()),
    ],
)
def test_anything_else_is_not(tmp_path: Path, body: bytes, key_id: str, signature: str) -> None:
    keys = read_keys(keys_file(tmp_path, **{KEY_ID: KEY, OLDER_KEY_ID: OLDER_KEY}))
    assert not keys.is_good(body, key_id=key_id, signature=signature)


OTHER_CURVE: Final = (
    generate_private_key(SECP384R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.mark.parametrize(
    ("content", "sentence"),
    by_turns(
        [
            (None, "cannot be read"),
            (b"", "does not hold GitHub's public keys"),
            (b"\xff", "does not hold GitHub's public keys"),
            (b"[]", "does not hold GitHub's public keys"),
            (
                json.dumps({"public_keys": [{"key_identifier": "x", "key": "y"}]}).encode(),
                "does not hold GitHub's public keys",
            ),
            (b'{"public_keys":[]}', "must hold keys of the curve P-256"),
            (
                json.dumps({"public_keys": [{"key_identifier": "x", "key": OTHER_CURVE}]}).encode(),
                "must hold keys of the curve P-256",
            ),
        ],
        one_of=3,
    ),
)
def test_a_file_that_cannot_be_meant_is_one_sentence(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_keys(path)
    assert f"SCIM_LEDGER_GITHUB_KEYS_FILE: {path} {sentence}" in str(caught.value)
