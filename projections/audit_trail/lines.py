"""Export audit rows as NDJSON that the database writes: the bytes that `AuditEvent` encodes to.

Making 18 Python values of each row, an `AuditEvent` of them and JSON of that was three quarters of
an export, on the loop that everybody waits for. Written where the rows are, a page is one value,
passed on as it is.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from projections.audit_trail.view import REFUSALS, AuditEvent


class _Written(NamedTuple):
    """SQL of a field's value, and what stands around it.

    is_null: SQL, where `null` may stand instead; concat leaves the value itself out then.
    """

    value: str
    before: str = ""
    behind: str = ""
    is_null: str | None = None


def _bare(name: str) -> _Written:
    return _Written(f"page.{name}")


def _text(name: str) -> _Written:
    return _Written(f"to_json(page.{name})", is_null=f"page.{name} IS NULL")


def _word(name: str) -> _Written:
    """What never needs an escape: ids, and what a release names (kinds, doors, methods,
    classes of paths).
    """
    return _Written(f"page.{name}", '"', '"')


def _word_or_null(name: str) -> _Written:
    return _word(name)._replace(is_null=f"page.{name} IS NULL")


def _at(name: str) -> _Written:
    """Whole milliseconds, and sessions in UTC:
    with a microsecond more no trailing zero is left out.
    """
    return _Written(f"left(to_json(page.{name} + interval '1 us')::text, 24)", behind='Z"')


def _outcome(_: str) -> _Written:
    refusals = ", ".join(f"'{kind}'" for kind in sorted(REFUSALS))
    return _Written(
        f"CASE WHEN page.kind IN ({refusals}) THEN 'refused' ELSE 'success' END", '"', '"'
    )


def _source(name: str) -> _Written:
    return _word_or_null(name)._replace(value=f"host(page.{name})")


def _secret(name: str) -> _Written:
    return _word_or_null(name)._replace(value=f"lpad(to_hex(page.{name}), 8, '0')")


_HOW: Final[Mapping[str, Callable[[str], _Written]]] = {
    "position": _bare,
    "at": _at,
    "kind": _word,
    "outcome": _outcome,
    "reason": _text,
    "team_id": _word_or_null,
    "token_id": _word_or_null,
    "user_id": _word_or_null,
    "api_token_id": _word_or_null,
    "door": _word_or_null,
    "source": _source,
    "user_agent": _text,
    "method": _word_or_null,
    "path_class": _word_or_null,
    "note": _text,
    "count": _bare,
    "use_id": _word,
    "operator": _text,
    "secret": _secret,
    "cause": _word_or_null,
}
_FIELDS: Final = [field.encode_name for field in msgspec.structs.fields(AuditEvent)]


def _line() -> str:
    """The arguments of concat: a constant, a value, a constant and so on.

    Each costs a row a function call, so a constant holds all that stands between two values.
    """
    arguments, last, comma = [], _Written("", behind="{"), ""
    for name in _FIELDS:
        written = _HOW[name](name)
        arguments += [_between(last, f'{comma}"{name}":', written), written.value]
        last, comma = written, ","
    return ", ".join([*arguments, _between(last, "}\n", _Written(""))])


def _between(last: _Written, text: str, next_: _Written) -> str:
    def behind(end: str) -> str:
        return _either(next_.is_null, f"'{end}{text}null'", f"'{end}{text}{next_.before}'")

    return _either(last.is_null, behind(""), behind(last.behind))


def _either(condition: str | None, then: str, otherwise: str) -> str:
    return (
        otherwise
        if condition is None
        else f"CASE WHEN {condition} THEN {then} ELSE {otherwise} END"
    )


_BRACED: Final = _line().replace("{", "{{").replace("}", "}}")
SELECT: Final = (
    f"SELECT true, convert_to(string_agg(concat({_BRACED}), ''), 'UTF8') FROM ({{select}}) page"
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
    """Whether there is an address that Python may write in another way:
    an IPv4 one in IPv6 clothes.
    """
    return b'"source":"::' in lines
