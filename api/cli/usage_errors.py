"""How the values of a command line are read, and the message for an invalid one: one line, which
never repeats a secret.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args
from uuid import UUID

from cyclopts import CycloptsError, Parameter, Token, convert
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

_HARMLESS: Final = re.compile(r"(?!.*(?:scim|api)_)[\w.:@/+-]{0,20}", re.ASCII).fullmatch
"""Short enough that nothing of a secret's worth is in it."""

_is_whole: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})").fullmatch
"""A number in plain digits; how large it may be is told by its command."""

_KINDS: Final[dict[Any, str]] = {
    UUID: "a UUID",
    int: "a whole number",
    datetime: "an instant, such as 2026-01-31T10:00:00Z",
    Path: "a path",
}


def _read(type_: Any, tokens: Sequence[Token]) -> Any:
    """What was typed, as its type. Raises CoercionError.

    cyclopts would take `none` and `null` for an argument that is left out, and so what a script
    found nothing for would lift its condition; an empty path for the directory that one is in; and
    for a number also one that it rounds: an overlap of 0.4 seconds would be none.
    """
    parts = {*get_args(type_)}
    if NoneType in parts:
        (type_,) = parts - {NoneType}
    if type_ is Path and not tokens[0].value:
        raise CoercionError(token=tokens[0], target_type=Path)
    if type_ is int and not _is_whole(tokens[0].value):
        raise CoercionError(token=tokens[0], target_type=int)
    return convert(type_, tokens)


AS_TYPED: Final = Parameter(converter=_read, json_list=False, negative="")
"""For every argument: no text of one stands for its absence, `[]` is no list of nothing, and none
has an opposite: `--empty-team` would mean every team.
"""


def usage_line(error: CycloptsError) -> str:
    """One sentence for an operator."""
    name = "" if error.argument is None else error.argument.name
    if error.argument is not None and error.argument.index is not None:
        # given by its place, not by a name
        name = name.removeprefix("--").upper()
    match error:
        case UnknownOptionError():
            return (
                f"there is no option "
                f"{_word(error.token.keyword or error.token.value)} here; see --help"
            )
        case UnknownCommandError() | UnusedCliTokensError():
            return (
                f"{_word(*(error.unused_tokens or [])[:1])} is no command and no argument "
                f"here; see --help"
            )
        case CoercionError():
            given = None if error.token is None else error.token.value
            secret = "; no command asks for a secret" if error.target_type is UUID else ""
            return f"{name}: {_word(given)} is not {_kind(error.target_type)}{secret}"
        case RepeatArgumentError():
            return f"{name or error.token.keyword}: is given twice"
        case MissingArgumentError():
            lacks = "is required" if error.keyword is None else "requires an argument"
            return f"{name} {lacks}; see --help"
    return f"{name}: cannot be understood; see --help".removeprefix(": ")


def _word(text: str | None = None) -> str:
    if text is None:
        return "what was given"
    option = text.partition("=")[0]
    if option.startswith("-") and _HARMLESS(option):
        return option
    return repr(text) if _HARMLESS(text) else "what was given"


def _kind(type_: Any) -> str:
    if isinstance(type_, type) and issubclass(type_, Enum):
        return f"one of {', '.join(str(each.value) for each in type_)}"
    return _KINDS.get(type_, "what it must be")
