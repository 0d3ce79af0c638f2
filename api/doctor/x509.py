"""From when until when a certificate is good, read from the certificate itself.

The standard library tells that only of a peer's certificate that it verified: not of one that has
ended, and not of a file's.
"""

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG_LENGTH: Final = 0x80
_BEFORE_VALIDITY: Final = ("serialNumber", "signature", "issuer")
_PEM: Final = re.compile(
    "-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----", re.ASCII
)


class Validity(NamedTuple):
    """Of a certificate: both ends, in UTC."""

    begins_at: datetime
    ends_at: datetime


class _Element(NamedTuple):
    """Of DER: what it is, its content, and what stands behind it."""

    tag: int
    content: bytes
    rest: bytes


def validity(certificate: bytes) -> Validity:
    """Of a certificate in DER (RFC 5280 §4.1). Raises ValueError for anything else."""
    try:
        fields = _element(_element(certificate, _SEQUENCE).content, _SEQUENCE).content
        if fields[0] == _VERSION:
            fields = _element(fields).rest
        for _ in _BEFORE_VALIDITY:
            fields = _element(fields).rest
        begins = _element(_element(fields, _SEQUENCE).content)
        return Validity(_instant(begins), _instant(_element(begins.rest)))
    except IndexError:
        raise ValueError("no certificate in DER") from None


def validities(path: Path) -> list[Validity]:
    """Of each certificate in a file of PEM, in their order. Raises OSError and ValueError."""
    found = _PEM.findall(path.read_text("ascii", errors="replace"))
    if not found:
        raise ValueError("no certificate in PEM")
    return [validity(ssl.PEM_cert_to_DER_cert(each)) for each in found]


def _element(data: bytes, tag: int | None = None) -> _Element:
    """The first of some elements. Raises IndexError, and ValueError where it has another tag."""
    length, start = data[1], 2
    if length & _LONG_LENGTH:
        start += length & ~_LONG_LENGTH
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length or tag not in (None, data[0]):
        raise ValueError("no certificate in DER")
    return _Element(data[0], data[start : start + length], data[start + length :])


def _instant(time: _Element) -> datetime:
    """Of UTCTime, whose years have two digits, 50 and more for 19xx, or of GeneralizedTime."""
    text = time.content.decode("ascii")
    if time.tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
