"""`scim-ledger config check`: what a process of the service would be told, and by whom."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
from cyclopts import App, Parameter
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.cli.console import AsJson, DataDir, complain, show
from api.cli.installation.contradictions import contradictions
from api.deployment import embedded, head_file, own_pepper_file
from api.settings import (
    KNOWN,
    PREFIX,
    Given,
    Settings,
    SettingsError,
    UnusableSetting,
    checked,
    given,
    unknown_setting,
)
from domain.errors import InvalidValue
from domain.kept_text import looks_like_a_secret
from domain.postgres.embedded.error import EmbeddedPostgresError

HIDDEN: Final = "(hidden)"
UNUSABLE: Final = "(unusable)"
UNNOTICED: Final = "(none: a restore of an older state would not be noticed)"
MISPLACED: Final = "looks like a secret, which no setting takes: revoke it if it is one"
SECRET_PARTS: Final = ("password", "secret", "scram_client_key", "scram_server_key")
"""How the names of a connection string's secret parts end."""

app = App(name="config", help="The settings, as the service would read them.")


@app.command
def check(
    *,
    host: Annotated[list[str] | None, Parameter(help="As of serve.")] = None,
    port: Annotated[int | None, Parameter(help="As of serve.")] = None,
    workers: Annotated[int | None, Parameter(help="As of serve.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> int:
    """Tell each setting, its value and where it is from; and what is wrong with them.

    No secret is shown. Exit code 1 when something is wrong. No database is asked: doctor does that.
    """
    hosts = ",".join(host) if host else None
    told = given(os.environ, host=hosts, port=port, workers=workers, data_dir=data_dir)
    settings, wrong = _read(told)
    rows = [_row(name, settings, told, is_wrong=name in wrong) for name in _shown(told)]
    problems = [*wrong.values(), *contradictions(settings, told, os.environ)]
    if as_json:
        show({"settings": rows, "problems": problems}, as_json=True)
    else:
        show([{name: _text(value) for name, value in row.items()} for row in rows], as_json=False)
        for problem in problems:
            complain(problem)
    return 1 if problems else 0


def _text(value: object) -> object:
    """As one would write it into a variable."""
    return str(value).lower() if isinstance(value, bool) else value


def _read(told: Mapping[str, Given]) -> tuple[Settings, dict[str, str]]:
    """The settings without those that are wrong, and what is wrong, by name.

    Raises InvalidValue about a flag.
    """
    wrong = {name: str(unknown_setting(name)) for name in sorted(told.keys() - {*KNOWN})}
    for name, each in told.items():
        if name != "PEPPER" and looks_like_a_secret(each.value):
            if each.name.startswith("--"):
                raise InvalidValue(each.name, MISPLACED)
            wrong[name] = f"{each.name} {MISPLACED}"
    good = {name: each.value for name, each in told.items() if name not in wrong}
    while True:
        try:
            return checked(good), wrong
        except UnusableSetting as error:
            field, as_given, said = error.field, told[error.field].name, error.detail
            if as_given.startswith("--"):
                raise InvalidValue(as_given, said) from None
            said = f"{as_given} {said}"
        except SettingsError as error:  # the pepper is given twice
            field, said = "PEPPER", str(error)
        wrong[field] = said
        del good[field]


def _shown(told: Mapping[str, Given]) -> Iterator[str]:
    """Every setting, but those between the processes of one `serve` only where they are given."""
    return (name for name in KNOWN if name in told or not name.endswith(("_FD", "WORKER_NUMBER")))


def _row(
    name: str, settings: Settings, told: Mapping[str, Given], *, is_wrong: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {"setting": PREFIX + name}
    if is_wrong:
        row["value"] = UNUSABLE
    elif name == "PEPPER" and settings.pepper is None:
        file = _pepper_file(settings)
        hidden = None if file is None else HIDDEN
        return {**row, "value": hidden, "source": "file" if file else "default", "given_as": file}
    else:
        row["value"] = _value(name, settings)
    each = told.get(name)
    if each is None or not each.value.strip():
        return {**row, "source": "default", "given_as": None}
    source = "flag" if each.name.startswith("--") else "environment"
    return {**row, "source": source, "given_as": each.name}


def _value(name: str, settings: Settings) -> object:
    value = getattr(settings, name.lower())
    if name == "HEAD_FILE" and value is None:
        return _default_head_file(settings)
    if name == "DATA_DIR" and value is None and settings.database_url is None:
        return _default_data_dir()
    if value in {None, ""}:
        return None
    if name == "PEPPER":
        return HIDDEN
    if name in {"DATABASE_URL", "OWNER_DATABASE_URL"}:
        return without_password(value)
    return str(value) if isinstance(value, Path) else value


def without_password(conninfo: str) -> str:
    """A connection string as its parts, those that are secret hidden."""
    parts = conninfo_to_dict(conninfo)
    for part, value in parts.items():
        # `//user:secret` without a host reads as a host and its port.
        is_password = part == "port" and not str(value).replace(",", "").isdecimal()
        if is_password or part.endswith(SECRET_PARTS):
            parts[part] = HIDDEN
    try:
        return make_conninfo("", **parts)
    except psycopg.ProgrammingError:
        return HIDDEN


def _default_data_dir() -> str | None:
    try:
        return str(embedded(Settings()).base_dir)
    except EmbeddedPostgresError:
        return None


def _default_head_file(settings: Settings) -> str | None:
    try:
        path = head_file(settings)
    except EmbeddedPostgresError:
        return None
    return UNNOTICED if path is None else str(path)


def _pepper_file(settings: Settings) -> str | None:
    """Where the keys are read from; without a DATABASE_URL, they are made there."""
    if settings.pepper_file is not None:
        return str(settings.pepper_file)
    if settings.database_url is not None:
        return None
    try:
        return str(own_pepper_file(embedded(settings)))
    except EmbeddedPostgresError:
        return None
