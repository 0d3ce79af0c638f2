"""`scim-ledger repair …`: repairs that only the owner of the database may make."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec
import psycopg
from cyclopts import App, Parameter

from api.cli.console import AsJson, DataDir, show
from api.clock_and_ids import now, operator_name
from api.deployment import Keys, embedded, open_store, own_pepper_file, owner_conninfo
from api.settings import Settings, SettingsError, load, pepper_keys
from domain.errors import InvalidValue
from domain.eventstore.forgetting.events import Forgotten
from domain.eventstore.forgetting.run import forget
from domain.eventstore.repair import (
    NotRepairable,
    give_up_pepper,
    repair_ledger_time,
    repair_states,
)
from domain.networks.plain import plain_network
from domain.postgres.connection import open_connection
from domain.postgres.migrate import takes_owner
from domain.scim_token.events import USER_AGENT_MAX_LENGTH
from domain.scim_token.values import REASON_MAX_LENGTH, check_reason
from domain.secret import Pepper
from projections.described import rfc3339
from projections.rebuild import requests as rebuild_requests
from projections.registry import PROJECTIONS

_NEXT: Final = "run scim-ledger verify, then start the service: it rebuilds every view"
_OTHERS: Final = f"{_NEXT}; backups, exports and files of the archive from before have it still"
_NOTHING: Final = "nothing was changed; repeat it with --confirm"

app = App(
    name="repair",
    help="Set the ledger right as the owner of its database; each repair is kept on record.",
)

Confirm = Annotated[bool, Parameter(help="Do it; without this, say what would be done.")]
Reason = Annotated[
    str, Parameter(help=f"Why, for the record; at most {REASON_MAX_LENGTH} characters.")
]


Sources = Annotated[
    tuple[str, ...],
    Parameter(
        name="--source",
        negative_iterable="",
        help="An address or network whose addresses are forgotten; repeat it for several.",
    ),
]
UserAgents = Annotated[
    tuple[str, ...],
    Parameter(
        name="--user-agent",
        negative_iterable="",
        help="What a program calls itself, as the trail tells it; repeat it for several.",
    ),
]


@app.command(name="ledger-time")
def ledger_time(
    *,
    confirm: Confirm = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take ledger time back to the last instant before it jumped ahead of the database's clock.

    For a ledger in which a wrong clock has made tokens expire early. Stop every service first.
    """
    check_reason(reason or None)
    with as_owner(load(data_dir=data_dir)) as connection:
        repair = repair_ledger_time(connection, clock=now(), by=operator_name(), reason=reason)
        if repair is not None:
            _rebuild_views(connection)
        if not confirm:
            connection.rollback()
    if repair is None:
        show(
            {"found": "ledger time is not ahead of the database's clock", "is_done": False},
            as_json=as_json,
        )
        return
    show(
        {
            "found": f"{repair.events} events, {repair.first} to "
            f"{repair.last}, are ahead of the clock",
            "ledger_time": rfc3339(repair.until),
            "goes_back_to": rfc3339(repair.since),
            "streams": repair.streams,
            "is_done": confirm,
            "next": _NEXT if confirm else _NOTHING,
        },
        as_json=as_json,
    )


@app.command(name="states")
def states(
    *,
    confirm: Confirm = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Derive states, stream heads and the rows of secrets anew from the events, which stay.

    For a ledger in which `verify` finds that one of them is not what the events lead to. Stop every
    service first.
    """
    check_reason(reason or None)
    with as_owner(load(data_dir=data_dir)) as connection:
        streams = repair_states(connection, by=operator_name(), reason=reason)
        _rebuild_views(connection)
        if not confirm:
            connection.rollback()
    show(
        {"streams": streams, "is_done": confirm, "next": _NEXT if confirm else _NOTHING},
        as_json=as_json,
    )


@app.command(name="forget")
def forget_(
    *,
    source: Sources = (),
    user_agent: UserAgents = (),
    confirm: Confirm = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take addresses, and what programs call themselves, out of every event, for good.

    For whom the law gives a right to be forgotten. Each address gives way to one that nobody has
    (100::/64). Stop every service first.
    """
    check_reason(reason or None)
    what = _forgotten(source, user_agent)
    with as_owner(load(data_dir=data_dir)) as connection:
        if not any(what):
            raise InvalidValue("--source", "must be given, or --user-agent")
        done = forget(connection, what, by=operator_name(), reason=reason)
        if done.events:
            _rebuild_views(connection)
        if not (confirm and done.events):
            connection.rollback()
    show(
        {
            "events": done.events,
            "addresses": done.addresses,
            "is_done": confirm and done.events > 0,
            "next": (_OTHERS if confirm else _NOTHING) if done.events else "none tells of it",
        },
        as_json=as_json,
    )


@app.command(name="pepper")
def pepper(
    *,
    confirm: Confirm = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give the pepper up for lost: the ledger takes a new one, and every secret so far stays void.

    Only where no backup has its keys: refused where they are set. Every token then needs a new
    secret. Stop every service first.
    """
    check_reason(reason or None)
    settings = load(data_dir=data_dir)
    with as_owner(settings) as connection:
        forgotten = give_up_pepper(
            connection, pepper=_given(settings), by=operator_name(), reason=reason
        )
        if not confirm:
            connection.rollback()
    show(
        {
            "generations": forgotten,
            "is_done": confirm,
            "next": "start the service with a new pepper, then rotate every token"
            if confirm
            else _NOTHING,
        },
        as_json=as_json,
    )


def _forgotten(sources: Sequence[str], user_agents: Sequence[str]) -> Forgotten:
    try:
        networks = [plain_network(each, is_strict=True) for each in sources]
    except ValueError:
        raise InvalidValue(
            "--source", "must be an address or a network, such as 192.0.2.0/24"
        ) from None
    if not all(
        each.isprintable() and 0 < len(each) <= USER_AGENT_MAX_LENGTH for each in user_agents
    ):
        raise InvalidValue(
            "--user-agent",
            f"must be as the trail tells it: 1 to {USER_AGENT_MAX_LENGTH} printable characters",
        )
    return Forgotten(networks, user_agents)


def _given(settings: Settings) -> Pepper | None:
    """What is set, or kept with the embedded ledger; None where it cannot be read."""
    if settings.database_url is None and settings.pepper is None and settings.pepper_file is None:
        own = own_pepper_file(embedded(settings))
        settings = msgspec.structs.replace(settings, pepper_file=own)
    try:
        return Pepper(pepper_keys(settings))
    except SettingsError:
        return None


@contextmanager
def as_owner(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection of the owner, in one transaction."""
    with (
        open_store(settings, keys=Keys.IGNORED),
        open_connection(owner_conninfo(settings), is_autocommit=False) as connection,
    ):
        try:
            yield connection
        except psycopg.errors.InsufficientPrivilege:
            connection.rollback()
            raise NotRepairable(takes_owner(connection)) from None


def _rebuild_views(connection: psycopg.Connection) -> None:
    """Ask for it, for the process that leads them next."""
    for projection in PROJECTIONS:
        rebuild_requests.request(connection, projection, accepts_difference=True)
    rebuild_requests.accept_differences(connection)
