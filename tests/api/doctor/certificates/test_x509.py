"""When a certificate ends is read as the library of the tests reads it, and of anything."""

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from api.doctor.x509 import validities, validity
from tests.api.doors.scim.wire.test_upstream_tls import certificate

FIRST: Final = datetime(1951, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
INSTANTS: Final = st.integers(0, int((LAST - FIRST).total_seconds())).map(
    lambda seconds: FIRST + timedelta(seconds=seconds)
)


@cache
def key(*, is_long: bool) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Of which a certificate takes several lengths of bytes."""
    return (
        rsa.generate_private_key(65537, 2048)
        if is_long
        else ec.generate_private_key(ec.SECP256R1())
    )


@given(INSTANTS, INSTANTS, st.text("a", min_size=1, max_size=64), st.booleans())
@example(datetime(1999, 12, 31, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC), "a", False)
@example(datetime(2050, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), "a" * 64, True)
def test_both_ends_are_those_that_were_signed(
    one: datetime, other: datetime, name: str, is_long: bool
) -> None:
    begins_at, ends_at = sorted((one, other))
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key(is_long=is_long).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(ends_at)
        .sign(key(is_long=is_long), hashes.SHA256())
    )
    assert validity(made.public_bytes(serialization.Encoding.DER)) == (begins_at, ends_at)


def der() -> bytes:
    pem = certificate().decode()
    return ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :])


@given(st.data())
def test_what_is_no_certificate_is_refused_in_one_way(data: st.DataObject) -> None:
    """Cut off, changed or anything: a ValueError, or what still is one."""
    whole = der()
    at = data.draw(st.integers(0, len(whole)))
    given_bytes = data.draw(
        st.one_of(
            st.just(whole[:at]),
            st.binary(max_size=4).map(lambda by: whole[:at] + by + whole[at + len(by) :]),
            st.binary(max_size=200),
        )
    )
    try:
        validity(given_bytes)
    except ValueError:
        return


def test_of_what_is_cut_off_or_something_else_nothing_is_read() -> None:
    """Wherever its ends stand, and whichever part of those around them is no SEQUENCE."""
    whole = der()
    both_ends = whole.index(bytes.fromhex("301e170d"))
    fields = whole.index(0x30, 1)
    cut_off = [whole[:at] for at in range(len(whole))]
    others = [whole[:at] + b"\x31" + whole[at + 1 :] for at in (0, fields, both_ends)]
    for each in cut_off + others:
        with pytest.raises(ValueError, match="no certificate in DER"):
            validity(each)


def test_a_file_has_several_and_more_than_certificates(tmp_path: Path) -> None:
    path = tmp_path / "chain.pem"
    first, second = certificate(for_days=5), certificate(for_days=50)
    path.write_bytes(b"Bag Attributes: \xff\r\n" + first + second.replace(b"\n", b"\r\n"))
    days = [(each.ends_at - datetime.now(UTC)).days for each in validities(path)]
    assert days in ([4, 49], [5, 50])
    path.write_bytes(first.partition(b"-----BEGIN CERTIFICATE")[0])
    with pytest.raises(ValueError, match="no certificate in PEM"):
        validities(path)
