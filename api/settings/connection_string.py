"""Whether libpq could connect as a connection string says, before anybody connects."""

import encodings.idna  # noqa: F401 - a process without the right to read its library cannot later
import re
from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn

from api.settings.errors import UnusableSetting

_ESCAPES: Final = "in a URL, the characters / and @ of a password are written %2F and %40"
_MALFORMED: Final = "is not a connection string of PostgreSQL"
_LIBPQ_SAID: Final = {
    "percent-encoded": "in a URL, the character % is written %25",
    "invalid connection option|invalid URI query parameter": "it has an option that there is not",
    "key/value separator": "each option behind the ? of a URL is written name=value",
}
"""What its message holds, and what may be said of it."""
_NUMBERS: Final = (
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
_NOWHERE: Final = "/nowhere"
"""The directory of a socket at which nobody listens."""
_NOT_TRIED: Final = {"host", "hostaddr", "user", "password", "passfile", "dbname", "service"}
_REFUSED: Final = re.compile(
    r"invalid \"?(\w+)\"? value|invalid (SCRAM \w+ key)|weak (sslmode) |"
    r"invalid (port) number|could not match \d+ (port) numbers"
)


def check_connection_string(name: str, text: str | None) -> None:
    """Raise UnusableSetting for what libpq cannot read or would not take.

    Nothing of the text is told but the names of its parts.
    """
    text = text or ""
    try:
        parts = conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:  # its message quotes the text, password included
        raise UnusableSetting(name, f"{_MALFORMED}: {_misread(text, str(error))}") from None
    if _is_cut(parts):
        why = _ESCAPES if "//" in text else "its port is no number"
        raise UnusableSetting(name, f"{_MALFORMED}: {why}")
    if not all(map(is_host, str(parts.get("host") or "").split(","))):
        raise UnusableSetting(name, "names a host that no host can be called: correct the name")
    for part, value in parts.items():
        plain = str(value)  # a URL's escapes are gone: %0A is a newline in a name
        if part != "password" and (not plain.isprintable() or plain != plain.strip()):
            raise UnusableSetting(name, f"holds a {part} with a blank at an end or a newline in it")
    wrong = _wrong_option(parts)
    if wrong is not None:
        raise UnusableSetting(name, f"gives {wrong} a value that it cannot have: correct it")


def _wrong_option(parts: Mapping[str, Any]) -> str | None:
    """The first option whose value libpq would not take.

    libpq looks at most of them before it connects, so it is asked to, where nobody listens. It
    reads numbers later; and those that a session states itself, only pg_dump would refuse.
    """
    for part in _NUMBERS:
        if part in parts and not _is_number(str(parts[part])):
            return part
    count = str(parts.get("host") or parts.get("hostaddr") or "").count(",") + 1
    tried = {part: value for part, value in parts.items() if part not in _NOT_TRIED}
    conninfo = make_conninfo("", **tried, host=",".join([_NOWHERE] * count))
    connection = PGconn.connect_start(conninfo.encode())
    said = connection.get_error_message()
    connection.finish()
    refused = _REFUSED.search(said)
    part = next(filter(None, refused.groups())) if refused else ""
    part = part.lower().replace(" ", "_")
    return part if part in parts else None  # else it is of a PG* variable


def _is_number(text: str) -> bool:
    """As libpq reads one: whole, in decimal digits and 32 bits."""
    is_whole = re.fullmatch(r"[+-]?[0-9]{1,10}", text) is not None
    return is_whole and -(2**31) <= int(text) < 2**31


def _misread(text: str, said: str) -> str:
    """Why libpq cannot read a connection string, without anything of it."""
    for pattern, why in _LIBPQ_SAID.items():
        if re.search(pattern, said):
            return why
    if "//" in text:
        return _ESCAPES
    return "write postgresql://user@host:port/database, or name='value' with blanks between them"


def is_host(text: str) -> bool:
    """Whether a name server can be asked for it, or need not be: for none, or for a socket."""
    if not text or text.startswith(("/", "@")):
        return True
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True


def _is_cut(parts: Mapping[str, Any]) -> bool:
    """Whether a character of the password ended it: what follows is taken for a host, a port or a
    database, and its beginning perhaps for a port.
    """
    host, port, dbname = (str(parts.get(part) or "") for part in ("host", "port", "dbname"))
    is_port = not port or port.replace(",", "").isdecimal() or not port.strip(",")
    return not is_port or "@" in host[1:] or ("@" in dbname and "user" not in parts)
