"""Which values a setting can have, each by itself."""

import re
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from api.settings.connection_string import check_connection_string, is_host
from api.settings.errors import SettingsError, UnusableSetting
from api.settings.given import PREFIX
from api.settings.settings import Settings, hosts, trusted_networks
from domain.scim_token.rotation import OVERLAP_MAX
from domain.secret import is_prefix

_TIMEOUT_MAX_S: Final = 3600
_RATE_MAX: Final = 1_000_000
_OVERLAP_MAX_S: Final = OVERLAP_MAX // timedelta(seconds=1)
BASE_URL: Final = "must be http(s)://host[:port][/path] in ASCII, without user, query and fragment"
_PLAIN_URL: Final = re.compile(r"(?:(?![?#\\])[!-~])+").fullmatch


def _check_new_secrets(settings: Settings) -> None:
    if settings.environment not in {"live", "test"}:
        raise UnusableSetting("ENVIRONMENT", "must be live or test")
    if settings.secret_prefix is not None and not is_prefix(settings.secret_prefix):
        raise UnusableSetting("SECRET_PREFIX", "must be 2 to 16 of the characters a-z and 0-9")


def _check_leaks(settings: Settings) -> None:
    if settings.on_leak not in {"revoke", "mark"}:
        raise UnusableSetting("ON_LEAK", "must be revoke or mark")


def _check_telemetry(settings: Settings) -> None:
    if settings.log_level.lower() not in {"debug", "info", "warning", "error"}:
        raise UnusableSetting("LOG_LEVEL", "must be debug, info, warning or error")
    if settings.log_format not in {"json", "text"}:
        raise UnusableSetting("LOG_FORMAT", "must be json or text")
    if settings.traces_endpoint is not None and not is_base_url(settings.traces_endpoint):
        raise UnusableSetting("TRACES_ENDPOINT", BASE_URL)
    if not 0 <= settings.traces_sample <= 1:
        raise UnusableSetting("TRACES_SAMPLE", "must be 0 to 1")


def _check_head_file(settings: Settings) -> None:
    if settings.head_file is not None and not settings.head_file.is_absolute():
        raise UnusableSetting(
            "HEAD_FILE",
            "must be an absolute path: in another directory a new one would be made, "
            "and what this host has known would be forgotten",
        )


def _check_rotations(settings: Settings) -> None:
    for name in ("rotation_used_apart_s", "rotation_silent_for_s"):
        if not 1 <= getattr(settings, name) <= _OVERLAP_MAX_S:
            raise UnusableSetting(name.upper(), f"must be 1 to {_OVERLAP_MAX_S}")


def _check_listening(settings: Settings) -> None:
    if not 1 <= settings.workers <= 64:  # noqa: PLR2004
        raise UnusableSetting("WORKERS", "must be 1 to 64")
    if not 0 <= settings.port <= 65535:  # noqa: PLR2004
        raise UnusableSetting("PORT", "must be 0 to 65535")
    if not all(map(is_host, hosts(settings))):
        raise UnusableSetting("HOST", "names a host that no host can be called: correct the name")


def check(settings: Settings) -> None:
    """Raise UnusableSetting for a value that cannot be, SettingsError for a pepper given twice."""
    _check_new_secrets(settings)
    _check_leaks(settings)
    _check_telemetry(settings)
    _check_head_file(settings)
    _check_listening(settings)
    check_connection_string("DATABASE_URL", settings.database_url)
    check_connection_string("OWNER_DATABASE_URL", settings.owner_database_url)
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
    for name in ("scim_upstream_url", "scim_base_url"):
        url = getattr(settings, name)
        if url is not None and not is_base_url(url):
            raise UnusableSetting(name.upper(), BASE_URL)
    trusted_networks(settings)


def is_base_url(text: str) -> bool:
    """Whether a path can be put behind it: see `BASE_URL`."""
    try:
        url = urlsplit(text)
        is_whole = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return is_whole and url.username is None and _PLAIN_URL(text) is not None
