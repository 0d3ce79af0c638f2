"""Audit rows as lines of JSON, written by the database: the same bytes that `AuditEvent` encodes to.

Making 17 Python values of each row, an `AuditEvent` of them and JSON of that was three quarters of an export,
on the loop that everybody waits for. Written where the rows are, a page is one value, passed on as it is.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from projections.audit_trail import REFUSALS, AuditEvent

_TEXT: Final = "coalesce(to_json({name}), 'null')"
_PLAIN: Final = "coalesce('\"' || {name} || '\"', 'null')"
"""For what never needs an escape."""

_KNOWN: Final = "'\"', {name}, '\"'"
"""And is never NULL."""

_WRITTEN: Final[Mapping[str, str]] = {
    "position": "{name}",
    # Whole milliseconds, and sessions in UTC: with a microsecond more no trailing zero is left out.
    "at": "left(to_json({name} + interval '1 us')::text, 24), 'Z\"'",
    "kind": _KNOWN,
    "outcome": "CASE WHEN kind IN ({refusals}) THEN '\"refused\"' ELSE '\"success\"' END",
    "reason": _TEXT,
    "team_id": _PLAIN,
    "token_id": _PLAIN,
    "user_id": _PLAIN,
    "api_token_id": _PLAIN,
    "door": _TEXT,
    "source": "coalesce('\"' || host({name}) || '\"', 'null')",
    "user_agent": _TEXT,
    "method": _TEXT,
    "path_class": _TEXT,
    "note": _TEXT,
    "count": "{name}",
    "use_id": _KNOWN,
}


def _written(name: str) -> str:
    refusals = ", ".join(f"'{kind}'" for kind in sorted(REFUSALS))
    return _WRITTEN[name].format(name=f"page.{name}", refusals=refusals)


_FIELDS: Final = [field.encode_name for field in msgspec.structs.fields(AuditEvent)]
_LINE: Final = ", ',".join(f'"{name}":\', {_written(name)}' for name in _FIELDS)

SELECT: Final = (
    f"SELECT true, convert_to(string_agg(concat('{{{{', '{_LINE}, E'}}}}\\n'), ''), 'UTF8') "
    "FROM ({select}) page"
)
"""SQL for a `ViewReader` around the select of a page, whose order the lines keep. NULL of no rows.

In JSON no newline and no quote is raw, so what is asked of the lines can be read from them.
"""

_FIRST: Final = b'{"position":'
assert _FIELDS[0] == "position"


def last_position(lines: bytes) -> int:
    """The position of the last of some lines."""
    start = lines.rfind(_FIRST) + len(_FIRST)
    return int(lines[start : lines.index(b",", start)])


def has_odd_address(lines: bytes) -> bool:
    """Whether there is an address that Python may write in another way: an IPv4 one in IPv6 clothes."""
    return b'"source":"::' in lines
