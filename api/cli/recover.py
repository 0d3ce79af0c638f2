"""`scim-ledger recover`: go on without what a restore of an older state has taken away."""

from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from api.cli.console import AsJson, DataDir, keep_head_file, show
from api.cli.ending import run
from api.clock_and_ids import operator_name
from api.deployment import open_ledger, open_store
from api.settings import Settings, load
from domain.authority import Operator
from domain.errors import InvalidValue, Refusal
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.known_head.lost import close_positions, find_loss, last_declared
from domain.eventstore.repair import require_no_service
from domain.losses.declared import Loss, in_words
from domain.postgres.connection import open_connection
from domain.scim_token.values import check_reason
from projections.described import rfc3339

NEXT: Final = (
    "revoke again what was revoked since, then start the service "
    "(docs/how-to/back-up-and-restore.md)"
)


class NothingLost(Refusal):
    """There is no loss to declare; the text says what was compared."""


def recover(
    *,
    declare_loss: Annotated[bool, Parameter(help="Do it; without this, say what is lost.")] = False,
    reason: Annotated[
        str | None, Parameter(help="Why, for the record; at most 200 characters.")
    ] = None,
    seen: Annotated[
        int | None,
        Parameter(help="The last position that a collector has stored, where it knows more."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Declare lost what this host or a collector has seen of the ledger and a restore took away.

    Until then the service lets nobody in: what was revoked since is good again. Stop every service
    first, and revoke that again before you start one.
    """
    check_reason(reason)
    if declare_loss and not reason:
        raise InvalidValue("/reason", "must be given: it stays in the audit trail")
    settings = load(data_dir=data_dir)
    with open_store(settings) as ready:
        assert ready.database_url is not None
        loss = _found(ready, seen)
        if declare_loss:
            assert reason is not None
            _declare(ready, loss, reason)
    done = NEXT if declare_loss else "nothing was changed; repeat it with --declare-loss"
    show({"lost": in_words(loss), "is_done": declare_loss, "next": done}, as_json=as_json)


def lost(settings: Settings, seen: int | None = None) -> Loss | None:
    """What the ledger of an open store lacks. Raises HeadFileUnusable, InvalidValue."""
    assert settings.database_url is not None
    known = None if settings.head_file is None else HeadFile(settings.head_file).read()
    with open_connection(settings.database_url) as connection:
        return find_loss(connection, known, seen)


def _found(settings: Settings, seen: int | None) -> Loss:
    loss = lost(settings, seen)
    if loss is not None:
        return loss
    if seen is None and (settings.head_file is None or not settings.head_file.exists()):
        raise NothingLost(
            "this host has no head file, so it knows of nothing that is lost; "
            "give the last position that a collector has stored with --seen"
        )
    raise NothingLost(
        f"nothing is lost: the ledger has all that is known of it{_declared_before(settings)}"
    )


def _declared_before(settings: Settings) -> str:
    """For whoever repeats a declaration that was cut off behind its commit."""
    assert settings.database_url is not None
    with open_connection(settings.database_url) as connection:
        at = last_declared(connection)
    if at is None:
        return ""
    return (
        f"; a loss was declared at {rfc3339(at)}: unless it is done, revoke again what was revoked "
        "since the state that was restored"
    )


def _declare(settings: Settings, loss: Loss, reason: str) -> None:
    assert settings.database_url is not None
    with open_connection(settings.database_url) as connection:
        require_no_service(connection)
        close_positions(connection, loss)
        run(_record(settings, loss, reason))
    keep_head_file(settings.database_url, settings.head_file)


async def _record(settings: Settings, loss: Loss, reason: str) -> None:
    # Without the head file, which keeps everybody else out.
    async with open_ledger(msgspec.structs.replace(settings, head_file=None)) as ledger:
        await ledger.declare_loss(loss, by=Operator(name=operator_name()), reason=reason)
