"""The message for an invalid command line: one line, which never repeats a secret."""

import re
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from cyclopts import CycloptsError
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

_HARMLESS: Final = re.compile(r"(?!.*(?:scim|api)_)[\w.:@/+-]{1,20}", re.ASCII).fullmatch
"""Short enough that nothing of a secret's worth is in it."""

_KINDS: Final[dict[Any, str]] = {
    UUID: "a UUID",
    int: "a whole number",
    datetime: "an instant, such as 2026-01-31T10:00:00Z",
}


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
