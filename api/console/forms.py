"""Read what a form sends; a mistake is told beside its field, with everything else as it was."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode
from uuid import UUID, uuid5

from api.console.days import end_of
from api.errors import BadRequest, InvalidForm
from api.http import instants
from api.http.form_body import read_form
from api.http.json_body import StrictRequest
from domain.authority import ApiCall
from domain.commands import CommandKey
from domain.errors import InvalidValue, PolicyViolated

NOT_WHOLE: Final = "The form is not whole. Open its page again."
KEY: Final = "key"
"""The field of a form that makes its second sending no second command."""


class Mistakes(Exception):
    """What is wrong with a form: of each field, or of the whole under "", why."""

    def __init__(self, by_field: Mapping[str, str]) -> None:
        super().__init__("a form has mistakes")
        self.by_field = by_field


async def read(request: StrictRequest, *, exact: Collection[str] = ()) -> Mapping[str, str]:
    """The fields that have a value, without blanks around it. Raises BadRequest.

    exact: those that keep their blanks, for the page showed what there is; also blanks alone.
    """
    try:
        fields = await read_form(request)
    except InvalidForm as error:
        raise BadRequest(error.detail) from None
    return filled(fields, exact=exact)


def filled(fields: Mapping[str, str | None], *, exact: Collection[str] = ()) -> dict[str, str]:
    """Those that have a value, without blanks around it. exact: as of `read`."""
    return {
        name: kept
        for name, value in fields.items()
        if value and (kept := value if name in exact else value.strip())
    }


def key_of(fields: Mapping[str, str], call: ApiCall, path: str) -> CommandKey:
    """One command for each form that was opened, however often it is sent. path: where to.

    Raises BadRequest.
    """
    try:
        opened = UUID(fields[KEY])
    except (KeyError, ValueError):
        raise BadRequest(NOT_WHOLE) from None
    asked = f"{path}?{urlencode(sorted(fields.items()))}"
    return CommandKey(uuid5(call.api_token_id, f"{path} {opened}"), sha256(asked.encode()).digest())


def instant_of(fields: Mapping[str, str], name: str) -> datetime:
    """The instant that a page has put into its form, UTC. Raises BadRequest."""
    try:
        return instants.parse_in_range(fields.get(name)).astimezone(UTC)
    except instants.NoInstant:
        raise BadRequest(NOT_WHOLE) from None


def uuid_of(fields: Mapping[str, str], name: str) -> UUID:
    """The id in a field that must be there. Raises Mistakes."""
    if name not in fields:
        raise Mistakes({name: "is required"})
    try:
        return UUID(fields[name])
    except ValueError:
        raise Mistakes({name: "must be a UUID"}) from None


def end_of_day(fields: Mapping[str, str], name: str) -> datetime | None:
    """The end, UTC, of the day in a field; None without one. Raises Mistakes."""
    if name not in fields:
        return None
    try:
        return end_of(fields[name])
    except ValueError as error:
        raise Mistakes({name: str(error)}) from None


def overlap_of(fields: Mapping[str, str], choices: Collection[int]) -> timedelta:
    """How long the older secret goes on, by days; the first choice where none is made.

    Raises BadRequest.
    """
    chosen = {str(days): days for days in choices}.get(
        fields.get("overlap", str(next(iter(choices))))
    )
    if chosen is None:
        raise BadRequest("The overlap is none of the choices.")
    return timedelta(days=chosen)


def mistakes_of(error: InvalidValue | PolicyViolated) -> dict[str, str]:
    """The same mistakes by the names of the fields that they are about."""
    if isinstance(error, PolicyViolated):
        return {each.pointer.strip("/"): each.detail for each in error.violations}
    return {error.pointer.strip("/"): error.detail}
