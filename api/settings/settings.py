"""Settings: the variables `SCIM_LEDGER_*`, and those of `PLAIN`.

One that we do not know is refused.
"""

import os
import re
import string
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from api.settings.errors import SettingsError, UnusableSetting
from api.settings.given import PREFIX, given
from domain.errors import InvalidValue
from domain.scim_token.rotation import OVERLAP_MAX, FinishRule
from domain.secret import Pepper, is_prefix

_AT_THE_ENDS: Final = string.whitespace + "\u0085\u00a0\u2028\u2029\ufeff"
"""What `echo`, an editor or a spreadsheet leaves around a value;
no value of ours begins or ends with it.
"""
_TIMEOUT_MAX_S: Final = 3600
RETIRED: Final = "retired"
"""Stands in the pepper in the place of a key that was retired."""
_RATE_MAX: Final = 1_000_000
_OVERLAP_MAX_S: Final = OVERLAP_MAX // timedelta(seconds=1)
_BASE_URL: Final = "must be http(s)://host[:port][/path] without user, query and fragment"
_PLAIN_URL: Final = re.compile(r"[!-~]+").fullmatch


class Settings(msgspec.Struct, frozen=True, rename="upper"):
    """What a process of the service is told. Each field is the variable SCIM_LEDGER_<FIELD>.

    database_url: libpq URL of the app role (also plain DATABASE_URL); None for the embedded server.
    owner_database_url: of the role that migrates; the app's when not given.
    host, port, workers: where `serve` listens, several addresses separated by commas, and how many
    HTTP
        processes.
    data_dir: of the embedded server; also where its pepper is kept.
    first_token_file: where the first API token of a new ledger is written, where no terminal can
    show it. pepper: digest keys, newest last, separated by commas or white space; pepper_file: a
    file of them. environment: live or test, a part of new secrets.
    secret_prefix: of the issuer, that new secrets begin with; older ones stay as they are.
    on_leak: revoke or mark, what happens to a SCIM token whose leak is reported.
    github_keys_file: the public keys of GitHub's secret scanning; with it, its reports are taken.
    gitlab_revocation: take findings of GitLab's secret detection.
    head_file: names the newest event that this host has known, so that a restore of an older state
        is noticed; of an embedded ledger head.json in its directory unless set.
    allow_unsafe_database: start although the server may lose what it confirmed (fsync=off and the
    like). public_metrics: answer /metrics without an API token; no secret, but how much is used.
    metrics_token_file: tokens that are good for /metrics alone, also without the database.
    console: whether there are pages for people, at /console.
    scim_upstream_url: what stands behind /scim/v2 (also plain SCIM_UPSTREAM_URL); None for nothing.
    scim_base_url: what identity providers are told, such as a gateway's; None for our own.
    forward_authorization: hand the client's token on to it; it has no need of it.
    upstream_connect_timeout_s, upstream_head_timeout_s, upstream_idle_timeout_s: how long it may
    take to
        accept a connection, to begin its answer once the request is sent, and between two pieces.
    trusted_proxies: networks, separated by commas, whose X-Forwarded-* headers are believed; none:
    no one's. rate_per_token, rate_per_source: requests a second and worker, bursts of twice as
    many; 0 for no limit. rotation_used_apart_s, rotation_silent_for_s: see `FinishRule`.
    log_format: json or text. access_log: a line for each answer. traces_endpoint: URL of an
    OTLP/HTTP collector; None for no traces. traces_sample: the share of requests that are traced,
    where no caller has decided that.
    """

    database_url: str | None = None
    owner_database_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    data_dir: Path | None = None
    first_token_file: Path | None = None
    pepper: str | None = None
    pepper_file: Path | None = None
    environment: str = "live"
    secret_prefix: str | None = None
    on_leak: str = "revoke"
    github_keys_file: Path | None = None
    gitlab_revocation: bool = False
    head_file: Path | None = None
    allow_unsafe_database: bool = False
    public_metrics: bool = False
    metrics_token_file: Path | None = None
    console: bool = True
    scim_upstream_url: str | None = None
    scim_base_url: str | None = None
    forward_authorization: bool = False
    upstream_connect_timeout_s: float = 2.0
    upstream_head_timeout_s: float = 30.0
    upstream_idle_timeout_s: float = 30.0
    trusted_proxies: str = ""
    rate_per_token: float = 200.0
    rate_per_source: float = 1000.0
    rotation_used_apart_s: int = 2_700
    rotation_silent_for_s: int = 7_200
    log_level: str = "info"
    log_format: str = "json"
    access_log: bool = False
    traces_endpoint: str | None = None
    traces_sample: float = 1.0
    wake_fd: int | None = None
    turn_fd: int | None = None
    metrics_fd: int | None = None
    worker_number: int = 1


KNOWN: Final = tuple(field.encode_name for field in msgspec.structs.fields(Settings))


def load(environment: Mapping[str, str] = os.environ, /, **flags: object) -> Settings:
    """Settings from the environment; flags that are not None win.

    Raises SettingsError about a variable and InvalidValue about a flag: what was given is told by
    the name that it was given under.
    """
    told = given(environment, **flags)
    unknown = told.keys() - KNOWN
    if unknown:
        raise unknown_setting(min(unknown))
    try:
        return checked({field: each.value for field, each in told.items()})
    except UnusableSetting as error:
        name = told[error.field].name if error.field in told else f"{PREFIX}{error.field}"
        if name.startswith("--"):
            raise InvalidValue(name, error.detail) from None
        raise SettingsError(f"{name} {error.detail}") from None


def unknown_setting(field: str) -> SettingsError:
    """The refusal of a name, with the nearest known one."""
    near = get_close_matches(field.upper(), KNOWN, n=1)
    hint = "".join(f"; do you mean {PREFIX}{each}?" for each in near)
    return SettingsError(f"unknown setting {PREFIX}{field}{hint}")


def checked(texts: Mapping[str, str]) -> Settings:
    """The settings of texts by field, all known. Raises SettingsError and UnusableSetting."""
    return _checked(_converted(texts))


def _converted(texts: Mapping[str, str]) -> Settings:
    values = {
        name: stripped for name, value in texts.items() if (stripped := value.strip(_AT_THE_ENDS))
    }
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
        name = str(error).rpartition("$.")[2].rstrip("`") or "value"
        raise UnusableSetting(name, "is not a valid value") from None


def pepper_keys(settings: Settings) -> list[bytes | None]:
    """The digest keys, newest last; None in the place of one that was retired.

    Raises SettingsError when there are none.
    """
    if settings.pepper_file is not None:
        try:
            text = settings.pepper_file.read_text("ascii")
        except (OSError, UnicodeDecodeError):
            raise SettingsError(f"{PREFIX}PEPPER_FILE cannot be read") from None
    else:
        text = settings.pepper or ""
    keys = [None if key == RETIRED else key.encode() for key in text.replace(",", " ").split()]
    if not keys:
        raise SettingsError(f"a pepper is needed: set {PREFIX}PEPPER_FILE (or {PREFIX}PEPPER)")
    if keys[-1] is None:
        raise SettingsError("the newest key of the pepper must be there: it is never retired")
    if any(key is not None and len(key) < Pepper.MIN_KEY_BYTES for key in keys):
        raise SettingsError(f"each key of the pepper needs at least {Pepper.MIN_KEY_BYTES} bytes")
    return keys


def trusted_networks(settings: Settings) -> list[IPv4Network | IPv6Network]:
    """The networks of `trusted_proxies`. Raises SettingsError."""
    try:
        return [ip_network(text) for text in settings.trusted_proxies.replace(",", " ").split()]
    except ValueError:
        raise UnusableSetting(
            "TRUSTED_PROXIES", "must be networks, such as 10.0.0.0/8,::1"
        ) from None


def finish_rule(settings: Settings) -> FinishRule:
    """When a rotation finishes by itself."""
    return FinishRule(
        timedelta(seconds=settings.rotation_used_apart_s),
        timedelta(seconds=settings.rotation_silent_for_s),
    )


def hosts(settings: Settings) -> list[str]:
    """The addresses of `host`, in their order. Raises SettingsError."""
    found = [text.strip().removeprefix("[").removesuffix("]") for text in settings.host.split(",")]
    if not all(found):
        raise UnusableSetting("HOST", "must be addresses, such as 127.0.0.1,::1")
    return found


def _check_connection_string(name: str, text: str | None) -> None:
    try:
        parts = conninfo_to_dict(text or "")
    except psycopg.ProgrammingError:  # its message quotes the text, password included
        raise UnusableSetting(name, "is not a connection string of PostgreSQL") from None
    for part, value in parts.items():
        plain = str(value)  # a URL's escapes are gone: %0A is a newline in a name
        if part != "password" and (not plain.isprintable() or plain != plain.strip()):
            raise UnusableSetting(name, f"holds a {part} with a blank at an end or a newline in it")


def _check_new_secrets(settings: Settings) -> None:
    if settings.environment not in {"live", "test"}:
        raise UnusableSetting("ENVIRONMENT", "must be live or test")
    if settings.secret_prefix is not None and not is_prefix(settings.secret_prefix):
        raise UnusableSetting("SECRET_PREFIX", "must be 2 to 16 of the characters a-z and 0-9")


def _check_leaks(settings: Settings) -> None:
    if settings.on_leak not in {"revoke", "mark"}:
        raise UnusableSetting("ON_LEAK", "must be revoke or mark")


def _check_telemetry(settings: Settings) -> None:
    if settings.log_format not in {"json", "text"}:
        raise UnusableSetting("LOG_FORMAT", "must be json or text")
    if not 0 <= settings.traces_sample <= 1:
        raise UnusableSetting("TRACES_SAMPLE", "must be 0 to 1")


def _check_rotations(settings: Settings) -> None:
    for name in ("rotation_used_apart_s", "rotation_silent_for_s"):
        if not 1 <= getattr(settings, name) <= _OVERLAP_MAX_S:
            raise UnusableSetting(name.upper(), f"must be 1 to {_OVERLAP_MAX_S}")


def _checked(settings: Settings) -> Settings:
    _check_new_secrets(settings)
    _check_leaks(settings)
    _check_telemetry(settings)
    if not 1 <= settings.workers <= 64:  # noqa: PLR2004
        raise UnusableSetting("WORKERS", "must be 1 to 64")
    if not 0 <= settings.port <= 65535:  # noqa: PLR2004
        raise UnusableSetting("PORT", "must be 0 to 65535")
    _check_connection_string("DATABASE_URL", settings.database_url)
    _check_connection_string("OWNER_DATABASE_URL", settings.owner_database_url)
    if settings.pepper is not None and settings.pepper_file is not None:
        raise SettingsError(f"give {PREFIX}PEPPER or {PREFIX}PEPPER_FILE, not both")
    for name in (
        "upstream_connect_timeout_s",
        "upstream_head_timeout_s",
        "upstream_idle_timeout_s",
    ):
        if not 0 < getattr(settings, name) <= _TIMEOUT_MAX_S:
            raise UnusableSetting(name.upper(), f"must be more than 0 and at most {_TIMEOUT_MAX_S}")
    for name in ("rate_per_token", "rate_per_source"):
        rate = getattr(settings, name)
        if rate != 0 and not 1 <= rate <= _RATE_MAX:
            raise UnusableSetting(name.upper(), f"must be 1 to {_RATE_MAX}, or 0 for no limit")
    _check_rotations(settings)
    for name in ("scim_upstream_url", "scim_base_url", "traces_endpoint"):
        url = getattr(settings, name)
        if url is not None and not _is_base_url(url):
            raise UnusableSetting(name.upper(), _BASE_URL)
    trusted_networks(settings)
    hosts(settings)
    return settings


def _is_base_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        is_whole = url.scheme in {"http", "https"} and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        return False
    return (
        is_whole
        and url.username is None
        and not url.query
        and not url.fragment
        and _PLAIN_URL(text) is not None
    )
