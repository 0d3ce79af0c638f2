"""Settings that cannot be meant together, each told in one sentence with a remedy."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from api.doctor.before_start import NEEDS
from api.resources.metrics_token import NAME
from api.settings import (
    PREFIX,
    Given,
    Settings,
    SettingsError,
    check_which_ledger,
    given_twice,
    hosts,
    misspelt,
    pepper_keys,
)
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import default_base_dir

_OF_THE_UPSTREAM: Final = (
    "FORWARD_AUTHORIZATION",
    "UPSTREAM_CONNECT_TIMEOUT_S",
    "UPSTREAM_HEAD_TIMEOUT_S",
    "UPSTREAM_IDLE_TIMEOUT_S",
)
_OF_A_SERVER: Final = ("host", "hostaddr", "port", "service")
_EVERY_ADDRESS: Final = {"0.0.0.0", "::"}  # noqa: S104 - compared with
_THIS_MACHINE: Final = {"127.0.0.1", "::1", "localhost"}


def contradictions(
    settings: Settings, told: Mapping[str, Given], environment: Mapping[str, str]
) -> Iterator[str]:
    """What is wrong between settings. told: what was given. environment: where it was given.

    Raises InvalidValue about a flag.
    """
    yield from map(str, misspelt(environment))
    yield from given_twice(environment)
    try:
        check_which_ledger(settings, told)
    except SettingsError as error:
        yield str(error)
    yield from _database(settings)
    yield from _files(settings)
    yield from _upstream(settings, told)


def _database(settings: Settings) -> Iterator[str]:
    if settings.database_url is None:
        if settings.data_dir is None:
            try:
                default_base_dir()
            except EmbeddedPostgresError as error:
                yield str(error)
        return
    if settings.pepper is None and settings.pepper_file is None:
        yield f"with DATABASE_URL a pepper is needed: set {PREFIX}PEPPER_FILE"
    if settings.owner_database_url is not None:
        app, owner = map(conninfo_to_dict, (settings.database_url, settings.owner_database_url))
        names = {app.get("dbname"), owner.get("dbname")}
        # Whether two addresses lead to one server, a pooler or a list of hosts, doctor finds out.
        is_one_server = all(app.get(part) == owner.get(part) for part in _OF_A_SERVER)
        if is_one_server and len(names - {None}) == len((app, owner)):
            yield (
                f"DATABASE_URL and {PREFIX}OWNER_DATABASE_URL name two databases: "
                "let them differ in the role only"
            )


def _files(settings: Settings) -> Iterator[str]:
    """What their content contradicts."""
    if settings.pepper is not None or settings.pepper_file is not None:
        try:
            pepper_keys(settings)
        except SettingsError as error:
            yield str(error)
    for need in NEEDS.values():
        try:
            need(settings)
        except SettingsError as error:
            yield str(error)
    if settings.public_metrics and settings.metrics_token_file is not None:
        yield f"{NAME} has no use with {PREFIX}PUBLIC_METRICS: remove one of them"


def _upstream(settings: Settings, told: Mapping[str, Given]) -> Iterator[str]:
    if settings.scim_upstream_url is None:
        if settings.scim_base_url is not None and _leads_here(settings, settings.scim_base_url):
            yield (
                f"{PREFIX}SCIM_BASE_URL leads to this service, which has no upstream: "
                f"name your gateway there, or set {PREFIX}SCIM_UPSTREAM_URL"
            )
        for name in _OF_THE_UPSTREAM:
            if name in told:
                yield (
                    f"{told[name].name} has no use without an upstream: "
                    f"set {PREFIX}SCIM_UPSTREAM_URL, or remove it"
                )
        return
    if _leads_here(settings, settings.scim_upstream_url):
        yield f"{PREFIX}SCIM_UPSTREAM_URL leads back to this service: name your SCIM service there"


def _leads_here(settings: Settings, address: str) -> bool:
    """Whether it is one that this service listens on, as far as the settings tell."""
    url = urlsplit(address)
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    here = {*hosts(settings)}
    if here & _EVERY_ADDRESS:
        here |= _THIS_MACHINE
    if "127.0.0.1" in here or "::1" in here:
        here.add("localhost")
    return port == settings.port and url.hostname in here
