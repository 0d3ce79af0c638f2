"""Which settings were given, under which name: by a variable of the environment or by a flag."""

from collections.abc import Mapping
from typing import Final, NamedTuple

PREFIX: Final = "SCIM_LEDGER_"
PLAIN: Final = frozenset({"DATABASE_URL", "SCIM_UPSTREAM_URL"})
"""Read without the prefix too, where the prefixed variable is not given."""


class Given(NamedTuple):
    """A setting as it was given. name: of the variable or of the flag. value: its text."""

    name: str
    value: str


def given(environment: Mapping[str, str], /, **flags: object) -> dict[str, Given]:
    """What was given, by the name of the field, known or not; flags that are not None win."""
    told = {
        name.removeprefix(PREFIX): Given(name, value)
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    for name in PLAIN & environment.keys():
        told.setdefault(name, Given(name, environment[name]))
    for name, value in flags.items():
        if value is not None:
            told[name.upper()] = Given(f"--{name.replace('_', '-')}", str(value))
    return told
