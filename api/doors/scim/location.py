"""Rewrite the addresses in an upstream's answer (Location, Content-Location) for the client.

An address of the upstream's own, in whatever form it is written, becomes the one of ours that leads
there: nobody is sent around the authentication, and no address of the inside is shown.
"""

import re
import socket
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from api.doors.scim_messages import ROOT
from domain.networks.plain import plain_address

_PORTS: Final = {"http": 80, "https": 443}
_SCHEME: Final = re.compile(r"\A(https?):/*", re.IGNORECASE)
_SLASHES: Final = re.compile(r"\A//+")


class UpstreamAddress:
    """The upstream's address, and those below it. base: the setting, without a slash in the end."""

    def __init__(self, base: str) -> None:
        found = urlsplit(base)
        self._scheme = found.scheme
        self._host = _host(found)
        self._port = found.port or _PORTS[found.scheme]
        self._steps = [unquote(step) for step in found.path.split("/")]

    def made_ours(self, value: bytes, *, asked: str, public: str) -> bytes:
        """An address of an answer, for the client; what cannot be read stays as it is.

        asked: path of the request, as the client sent it. public: our origin as the client knows
        it, such as https://scim.example.com; empty where it told none.
        """
        try:
            return self._made_ours(value, asked, public)
        except ValueError:
            return value

    def _made_ours(self, value: bytes, asked: str, public: str) -> bytes:
        text = value.decode("latin-1")
        if not text:
            return value
        found = urlsplit(self._as_a_browser_reads(text))
        port = found.port
        if not found.scheme and not found.netloc:
            if not found.path.startswith("/"):
                return urljoin(public + asked, text).encode("latin-1")
            below = self._below(found.path)
        elif found.scheme in _PORTS and _host(found) == self._host and port in {None, self._port}:
            below = self._below(found.path)
        else:
            return value
        if below is None:
            return value
        ours = urlunsplit(SplitResult("", "", ROOT + below, found.query, found.fragment))
        return (public + ours).encode("latin-1")

    def _as_a_browser_reads(self, text: str) -> str:
        """Backslashes, missing and surplus slashes are what most clients make
        of them (WHATWG URL).
        """
        text = text.strip().replace("\t", "").replace("\\", "/")
        if _SCHEME.match(text):
            return _SCHEME.sub(lambda scheme: f"{scheme[1].lower()}://", text)
        return _SLASHES.sub(f"{self._scheme}://", text)

    def _below(self, path: str) -> str | None:
        """The rest of a path below the upstream's own, None where it is elsewhere."""
        steps = path.split("/")
        count = len(self._steps)
        if [unquote(step) for step in steps[:count]] != self._steps:
            return None
        rest = steps[count:]
        return "/" + "/".join(rest) if rest else ""


def _host(found: SplitResult) -> str:
    """A host's name or address in one form."""
    name = unquote(found.hostname or "").lower().removesuffix(".")
    try:
        return socket.inet_ntoa(socket.inet_aton(name))  # 127.1 and 0x7f000001 are 127.0.0.1, too
    except OSError:
        return str(plain_address(name) or name)
