"""Check values from outside; errors are in the words of the API and never quote the value."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

import msgspec
from msgspec import inspect

from api.http import instants
from domain.errors import InvalidValue

EXAMPLE_ID: Final = "05daecaf-4365-42e8-8370-8127de5dd717"
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}")


class Check(NamedTuple):
    """A rule of the domain, beside a type: `Annotated[str, Check(lambda name, at:
    check_name(name))]`.

    rule: the value and the instant of the request in; raises InvalidValue.
    """

    rule: Callable[[Any, datetime], None]


class Value:
    """One field of a body, or one parameter of a query.

    type_: `None` beside another type may be left out.
    """

    def __init__(self, type_: Any) -> None:
        self._checks = [found for found in _metadata(type_) if isinstance(found, Check)]
        self._is_optional = type(None) in get_args(type_)
        self._type = type_
        info = _info(type_)
        self.is_list = isinstance(info, inspect.ListType)
        self._of_a_list = _of_a_list(info) if isinstance(info, inspect.ListType) else ""
        self._info = _plain(info.item_type) if isinstance(info, inspect.ListType) else info
        self.struct = info.cls if isinstance(info, inspect.StructType) else None
        self.must_be = _must_be(self._info)

    def read(self, value: Any, *, at: datetime) -> Any:
        """The value of a JSON body as its type. Raises InvalidValue, whose pointer says something
        only where a rule has looked at a part of it.
        """
        if value is None and self._is_optional:
            return None
        if isinstance(self._info, inspect.DateTimeType):
            found: Any = self._instant(value, instants.parse)
        else:
            found = self._convert(value, self._type, of=self._of_a_list)
        self.check(found, at)
        return found

    def read_text(self, text: str, *, at: datetime) -> None:
        """Look at the text of a query's parameter. Raises InvalidValue, without a pointer."""
        found: Any = text
        match self._info:
            case inspect.DateTimeType():
                found = self._instant(text, instants.parse_in_range)
            case inspect.IntType():
                found = int(text) if _INTEGER.fullmatch(text) else None
                self._convert(found, self._type)
            case inspect.BoolType():
                self._convert(_BOOLEANS.get(text), bool)
            case _:
                self._convert([text] if self.is_list else text, self._type)
        self.check(found, at)

    def check(self, value: Any, at: datetime) -> None:
        """Look at a value by the rules beside its type. Raises InvalidValue."""
        for check in self._checks:
            check.rule(value, at)

    def _convert(self, value: Any, type_: Any, *, of: str = "") -> Any:
        try:
            if value is not None:
                return msgspec.convert(value, type_)
        except msgspec.ValidationError:
            pass
        raise InvalidValue("", f"{of}{self.must_be}")

    def _instant(self, value: Any, parse: Callable[[object], datetime]) -> datetime:
        try:
            return parse(value)
        except instants.NoInstant as refusal:
            raise InvalidValue("", refusal.detail) from None


def named(name: str) -> str:
    """A name that a client chose, to be told where it stands:
    a secret may be where a name belongs.
    """
    return name if _NAME.fullmatch(name) else "*"


def _must_be(info: inspect.Type) -> str:  # noqa: PLR0911 - a table: one case per type
    match info:
        case inspect.LiteralType(values=values):
            return f"must be one of: {', '.join(map(str, values))}"
        case inspect.EnumType(cls=choices):
            return f"must be one of: {', '.join(str(choice.value) for choice in choices)}"
        case inspect.StructType():
            return "must be an object"
        case inspect.UUIDType():
            return f"must be a UUID, such as {EXAMPLE_ID}"
        case inspect.DateTimeType():
            return instants.MUST_BE
        case inspect.BoolType():
            return "must be true or false"
        case inspect.IntType(ge=least, le=most):
            return f"must be a whole number{_from_to(least, most)}"
        case inspect.StrType(min_length=least, max_length=most):
            length = "" if most is None else f" of {least or 0} to {most} characters"
            return f"must be a string{length}"
        case _:
            raise AssertionError(f"no client sends {info}")


def _of_a_list(info: inspect.ListType) -> str:
    many = (
        "one or more" if info.max_length is None else f"{info.min_length or 0} to {info.max_length}"
    )
    return f"must be a list of {many}, each of which "


def _from_to(least: int | None, most: int | None) -> str:
    if most is None:
        return "" if least is None else f", {least} at least"
    return f" from {least} to {most}"


def _info(type_: Any) -> inspect.Type:
    info = inspect.type_info(type_)
    if isinstance(info, inspect.UnionType):
        (info,) = (part for part in info.types if not isinstance(part, inspect.NoneType))
    return _plain(info)


def _plain(info: inspect.Type) -> inspect.Type:
    """The type without what is said of it for people."""
    return info.type if isinstance(info, inspect.Metadata) else info


def _metadata(type_: Any) -> Iterable[Any]:
    if get_origin(type_) is Annotated:
        yield from type_.__metadata__
        type_ = type_.__origin__
    for part in get_args(type_):
        yield from _metadata(part)
