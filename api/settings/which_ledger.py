"""Which ledger is meant: what is given must leave no doubt, or a new one would be made and served.

Refused for every command, and by `config check` among all else.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from api.settings.errors import SettingsError
from api.settings.given import PLAIN, PREFIX, Given
from api.settings.settings import KNOWN, Settings
from domain.errors import InvalidValue


def check_which_ledger(settings: Settings, told: Mapping[str, Given]) -> None:
    """Raise SettingsError, or InvalidValue about a flag, where two are named or only half of one.

    told: what was given, by field.
    """
    if settings.owner_database_url is not None and "DATABASE_URL" not in told:
        raise SettingsError(
            f"{PREFIX}OWNER_DATABASE_URL has no use for the embedded server: "
            "set DATABASE_URL too, or remove it"
        )
    if settings.data_dir is None or "DATA_DIR" not in told:
        return
    name = told["DATA_DIR"].name
    if not name.startswith("--"):
        if not settings.data_dir.is_absolute():
            raise SettingsError(
                f"{name} must be an absolute path: from another directory it names another ledger"
            )
    elif settings.database_url is not None:
        raise InvalidValue(
            name,
            f"has no use with {told['DATABASE_URL'].name}, which names the ledger's server: "
            "leave it out, or unset the variable",
        )


def misspelt(environment: Mapping[str, str]) -> Iterator[SettingsError]:
    """The refusal of each variable that is one slip of the hand away from one of ours, which is
    not given: it would name no ledger, and without a name a new one is made.
    """
    ours = [*PLAIN, *(PREFIX + name for name in KNOWN)]
    for name in sorted(environment):
        if name in PLAIN or name.startswith(PREFIX):
            continue
        for meant in ours:
            given = {meant, PREFIX + meant} & environment.keys()
            if not given and _is_slip(name.upper(), meant):
                yield SettingsError(f"unknown setting {name}; do you mean {meant}?")


def given_twice(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that is set with the prefix and, to something else, without."""
    for name in sorted(PLAIN):
        plain, prefixed = environment.get(name), environment.get(PREFIX + name)
        if plain and prefixed and plain != prefixed:
            yield f"{name} differs from {PREFIX}{name}, which is used: remove one of them"


def _is_slip(text: str, meant: str) -> bool:
    """Whether one character is missing, added or another, or two neighbours are swapped."""
    pairs = enumerate(zip_longest(text, meant))
    at = next((place for place, (one, other) in pairs if one != other), len(meant))
    return (
        meant[at + 1 :] in {text[at:], text[at + 1 :]}
        or text[at + 1 :] == meant[at:]
        or text[at:] == meant[at : at + 2][::-1] + meant[at + 2 :]
    )
