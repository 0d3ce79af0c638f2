"""Read the settings: the variables `SCIM_LEDGER_*`, and those of `PLAIN`.

One that we do not know is refused.
"""

import os
import string
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import msgspec

from api.settings.checks import check
from api.settings.errors import SettingsError, UnusableSetting
from api.settings.given import PREFIX, given
from api.settings.settings import KNOWN, Settings
from api.settings.which_ledger import check_which_ledger, misspelt
from domain.errors import InvalidValue

_AT_THE_ENDS: Final = string.whitespace + "\u0085\u00a0\u2028\u2029\ufeff"
"""What `echo`, an editor or a spreadsheet leaves around a value;
no value of ours begins or ends with it.
"""
_NEVER_EMPTY: Final = {
    *("DATABASE_URL", "OWNER_DATABASE_URL", "DATA_DIR", "PEPPER_FILE", "HEAD_FILE"),
}
"""What names the ledger and its files: whoever sets one means one that is there, and without it
another is made.
"""

_TYPES: Final = {field.encode_name: field.type for field in msgspec.structs.fields(Settings)}


def load(environment: Mapping[str, str] = os.environ, /, **flags: object) -> Settings:
    """Settings from the environment; flags that are not None win.

    Raises SettingsError about a variable and InvalidValue about a flag: what was given is told by
    the name that it was given under.
    """
    told = given(environment, **flags)
    unknown = told.keys() - KNOWN
    if unknown:
        raise unknown_setting(min(unknown))
    for slip in misspelt(environment):
        raise slip
    try:
        settings = checked({field: each.value for field, each in told.items()})
    except UnusableSetting as error:
        name = told[error.field].name if error.field in told else f"{PREFIX}{error.field}"
        if name.startswith("--"):
            raise InvalidValue(name, error.detail) from None
        raise SettingsError(f"{name} {error.detail}") from None
    check_which_ledger(settings, told)
    return settings


def unknown_setting(field: str) -> SettingsError:
    """The refusal of a name, with the nearest known one."""
    near = get_close_matches(field.upper(), KNOWN, n=1)
    hint = "".join(f"; do you mean {PREFIX}{each}?" for each in near)
    return SettingsError(f"unknown setting {PREFIX}{field}{hint}")


def checked(texts: Mapping[str, str]) -> Settings:
    """The settings of texts by field, all known. Raises SettingsError and UnusableSetting."""
    settings = _converted(texts)
    check(settings)
    return settings


def _converted(texts: Mapping[str, str]) -> Settings:
    values = {
        name: stripped for name, value in texts.items() if (stripped := value.strip(_AT_THE_ENDS))
    }
    for name in sorted(_NEVER_EMPTY & (texts.keys() - values.keys())):
        raise UnusableSetting(name, "is set, and empty: unset it, or give it a value")
    for name, value in values.items():
        # PEPPER is a list that may stand on several lines.
        if not ("".join(value.split()) if name == "PEPPER" else value).isprintable():
            raise UnusableSetting(
                name, "holds a character that is not printable, such as a newline"
            )
    try:
        return msgspec.convert(
            values, Settings, strict=False, dec_hook=lambda type_, value: type_(value)
        )
    except msgspec.ValidationError as error:
        # The path names the setting; the rest of the message could quote its value.
        name = str(error).rpartition("$.")[2].rstrip("`")
        raise UnusableSetting(name, _wanted(name)) from None


def _wanted(name: str) -> str:
    """What a setting takes whose text has another type."""
    unit = "of seconds, without a unit" if name.endswith("_S") else "without a unit"
    return {
        bool: "must be true or false",
        float: f"must be a number {unit}",
    }.get(_TYPES[name], f"must be a whole number {unit}")
