"""Read how long a request's body is from its header section (RFC 9112 §6)."""

from typing import Literal, NamedTuple

from litestar.types import HTTPScope


class Unforwardable(Exception):
    """The request cannot go on as it is. status, detail, headers: for the client."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class Framing(NamedTuple):
    """How long a request's body is (RFC 9112 §6).

    length: in bytes, where it is known beforehand.
    """

    kind: Literal["none", "length", "chunked"]
    length: int = 0


def framing_of(scope: HTTPScope) -> Framing:
    """How the request's head says that its body is framed.

    Raises Unforwardable on what we do not speak.
    """
    headers = scope["headers"]
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [
        coding.strip().lower()
        for name, value in headers
        if name == b"transfer-encoding"
        for coding in value.split(b",")
    ]
    if codings and codings != [b"chunked"]:
        raise Unforwardable(501, "No transfer coding but chunked is understood here.")
    if len(lengths) + len(codings) > 1 or not all(length.isdigit() for length in lengths):
        raise Unforwardable(400, "The length of the body is not clear.")
    if codings:
        return Framing("chunked")
    if lengths and int(lengths[0]):
        return Framing("length", int(lengths[0]))
    return Framing("none")
