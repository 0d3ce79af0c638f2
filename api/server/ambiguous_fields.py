"""Refuse request targets and header sections that two readers could understand differently."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from api.doors.client_address import is_ipv6
from api.server.error_response import Refusal

_PATH: Final = re.compile(rb"[/?#]")
_HOST: Final = re.compile(
    rb"(?:\[([0-9A-Za-z:.%]+)\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::([0-9]{0,5}))?"
)
"""RFC 9110 §7.2, RFC 3986 §3.2.2: a name or an address, and a port."""
_PORT_MAX: Final = 65535


def check_target(target: bytes) -> None:
    """Raise Refusal for one with a fragment (RFC 9112 §3.2): the parser would cut it off, and
    a filter, or the id of what is to be deleted, would go on as another one.
    """
    if b"#" in target:
        raise Refusal(400, "The request target has a # in it: write it as %23.")


def check_fields(headers: Sequence[tuple[bytes, bytes]], version: str) -> Mapping[bytes, bytes]:
    """The fields by name.

    Raises Refusal. headers: names in lower case. version: of HTTP, such as "1.1".

    The parser itself refuses a second Content-Length, and one together with Transfer-Encoding.
    """
    fields = dict(headers)
    if len(fields) < len(headers):
        names = [name for name, _ in headers]
        if names.count(b"authorization") > 1:
            raise Refusal(400, "More than one Authorization header.")
        if names.count(b"host") > 1:
            raise Refusal(400, "More than one Host header.")
    if version == "1.1":
        if b"host" not in fields:
            raise Refusal(400, "HTTP/1.1 requires a Host header.")
    elif version != "1.0":
        raise Refusal(400, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    elif b"transfer-encoding" in fields:  # RFC 9112 §6.1: its framing is to be treated as faulty
        raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding.")
    if not _is_host(fields.get(b"host", b"")):
        raise Refusal(400, "The Host header is not valid.")
    if b"transfer-encoding" in fields:
        _check_coding(b",".join(value for name, value in headers if name == b"transfer-encoding"))
    return fields


def with_host_of(
    target: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """The fields of a request whose target is no path: a whole URL names the host, whatever the
    field says (RFC 9112 §3.2.2). Raises Refusal for one that names none, or another scheme.
    """
    scheme, is_url, rest = target.partition(b"://")
    if not is_url:  # of OPTIONS: *
        return list(headers)
    authority = _PATH.split(rest, maxsplit=1)[0]
    if scheme.lower() not in {b"http", b"https"} or not authority or not _is_host(authority):
        raise Refusal(400, "The request target is not valid.")
    return [*(field for field in headers if field[0] != b"host"), (b"host", authority)]


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    """Clients name a few hosts, with each request."""
    host = _HOST.fullmatch(value)
    if host is None or int(host[2] or 0) > _PORT_MAX:
        return False
    return host[1] is None or is_ipv6(host[1].decode("ascii"))


def _check_coding(value: bytes) -> None:
    """Raise Refusal for a body whose coding we do not undo:
    it would pass for another (RFC 9112 §6.1).

    value: of all fields of that name. The parser looks at the last coding only.
    """
    codings = [coding.strip().lower() for coding in value.split(b",")]
    if codings[-1] != b"chunked" or b"chunked" in codings[:-1]:
        raise Refusal(400, "A request with Transfer-Encoding ends in chunked, once.")
    if len(codings) > 1:
        raise Refusal(501, "Of transfer codings only chunked is understood here.")
