"""What can be set, and what of it is made of other text: the variables `SCIM_LEDGER_*`."""

from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from api.settings.errors import SettingsError, UnusableFile, UnusableSetting
from api.settings.files import shown, text_of
from api.settings.given import PREFIX
from domain.networks.plain import Network, plain_network
from domain.scim_token.rotation import FinishRule
from domain.secret import Pepper

RETIRED: Final = "retired"
"""Stands in the pepper in the place of a key that was retired."""
RESTORE_PEPPER: Final = (
    "restore the ledger's keys in it, or make it readable to this user; only a new ledger takes "
    "a new key"
)


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


def pepper_keys(settings: Settings) -> list[bytes | None]:
    """The digest keys, newest last; None in the place of one that was retired.

    Raises SettingsError when there are none.
    """
    if settings.pepper_file is None:
        return _keys(settings.pepper or "")
    text = text_of(f"{PREFIX}PEPPER_FILE", settings.pepper_file, remedy=RESTORE_PEPPER)
    try:
        return _keys(text)
    except SettingsError as error:
        found = f"{PREFIX}PEPPER_FILE: {shown(settings.pepper_file)}: {error}"
        raise UnusableFile(found, RESTORE_PEPPER) from None


def _keys(text: str) -> list[bytes | None]:
    keys = [None if key == RETIRED else key.encode() for key in text.replace(",", " ").split()]
    if not keys:
        raise SettingsError(f"a pepper is needed: set {PREFIX}PEPPER_FILE (or {PREFIX}PEPPER)")
    if keys[-1] is None:
        raise SettingsError("the newest key of the pepper must be there: it is never retired")
    if any(key is not None and len(key) < Pepper.MIN_KEY_BYTES for key in keys):
        raise SettingsError(f"each key of the pepper needs at least {Pepper.MIN_KEY_BYTES} bytes")
    return keys


def trusted_networks(settings: Settings) -> list[Network]:
    """The networks of `trusted_proxies`, spelled as the addresses that are looked for in them: a
    log tells a proxy's as ::ffff:10.0.0.7 where a socket takes IPv6, too. Raises SettingsError.
    """
    named = settings.trusted_proxies.replace(",", " ").split()
    try:
        return [plain_network(text, is_strict=True) for text in named]
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
