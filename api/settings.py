"""Settings: the variables `SCIM_LEDGER_*`, and DATABASE_URL. A variable that we do not know is an error."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

PREFIX: Final = "SCIM_LEDGER_"


class SettingsError(Exception):
    """A setting is unknown, malformed or missing; one clear sentence, without its value."""


class Settings(msgspec.Struct, frozen=True, rename="upper"):
    """What a process of the service is told. Each field is the variable SCIM_LEDGER_<FIELD>.

    database_url: libpq URL of the app role (also plain DATABASE_URL); None for the embedded server.
    owner_database_url: of the role that migrates; the app's when not given.
    host, port, workers: where `serve` listens, and how many HTTP processes.
    data_dir: of the embedded server; also where its pepper is kept.
    pepper: digest keys, newest last, separated by commas or white space; pepper_file: a file of them.
    environment: live or test, the prefix of new secrets.
    allow_unsafe_database: start although the server may lose what it confirmed (fsync=off and the like).
    """

    database_url: str | None = None
    owner_database_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    data_dir: Path | None = None
    pepper: str | None = None
    pepper_file: Path | None = None
    environment: str = "live"
    allow_unsafe_database: bool = False
    log_level: str = "info"
    wake_fd: int | None = None


def load(environment: Mapping[str, str] = os.environ, **flags: object) -> Settings:
    """Settings from the environment; flags that are not None win. Raises SettingsError."""
    given = {
        name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)
    }
    unknown = given.keys() - {field.encode_name for field in msgspec.structs.fields(Settings)}
    if unknown:
        raise SettingsError(f"unknown setting {PREFIX}{min(unknown)}")
    if "DATABASE_URL" in environment:
        given.setdefault("DATABASE_URL", environment["DATABASE_URL"])
    given |= {name.upper(): str(value) for name, value in flags.items() if value is not None}
    given = {name: value for name, value in given.items() if value}
    try:
        settings = msgspec.convert(given, Settings, strict=False, dec_hook=lambda type_, value: type_(value))
    except msgspec.ValidationError as error:
        # The path names the setting; the rest of the message could quote its value.
        name = str(error).rpartition("$.")[2].rstrip("`") or "value"
        raise SettingsError(f"{PREFIX}{name} is not a valid value") from None
    return _checked(settings)


def pepper_keys(settings: Settings) -> list[bytes]:
    """The digest keys, newest last. Raises SettingsError when there are none."""
    if settings.pepper_file is not None:
        try:
            text = settings.pepper_file.read_text("ascii")
        except (OSError, UnicodeDecodeError):
            raise SettingsError(f"{PREFIX}PEPPER_FILE cannot be read") from None
    else:
        text = settings.pepper or ""
    keys = [key.encode() for key in text.replace(",", " ").split()]
    if not keys:
        raise SettingsError(f"a pepper is needed: set {PREFIX}PEPPER_FILE (or {PREFIX}PEPPER)")
    return keys


def _checked(settings: Settings) -> Settings:
    if settings.environment not in {"live", "test"}:
        raise SettingsError(f"{PREFIX}ENVIRONMENT must be live or test")
    if not 1 <= settings.workers <= 64:  # noqa: PLR2004
        raise SettingsError(f"{PREFIX}WORKERS must be 1 to 64")
    if not 0 <= settings.port <= 65535:  # noqa: PLR2004
        raise SettingsError(f"{PREFIX}PORT must be 0 to 65535")
    if settings.pepper is not None and settings.pepper_file is not None:
        raise SettingsError(f"give {PREFIX}PEPPER or {PREFIX}PEPPER_FILE, not both")
    return settings
