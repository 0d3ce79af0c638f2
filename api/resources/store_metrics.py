"""Metrics that are asked of the database and of this process, when somebody looks."""

import platform
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from typing import Final

from api.resources.health import CAUSES, Examined
from api.service import Service
from api.telemetry.exposition import gauge
from domain.errors import Unavailable
from projections.figures.queries import TOKENS_COUNTED, Figures
from projections.warnings.queries import COUNTED

_BUILT: Final = (version("scim-ledger"), platform.python_version())
_STATUSES: Final = ("ready", "degraded", "building", "read_only", "unavailable")


def of_process(found: Examined) -> Iterator[str]:
    """Readiness, and what runs: told while the database is away, too."""
    status = found.readiness.status
    yield from gauge(
        "scim_ledger_readiness",
        "1 for the status that /readyz tells.",
        ["status"],
        {(each,): int(each == status) for each in _STATUSES},
    )
    yield from gauge(
        "scim_ledger_problem",
        "1 for what is wrong.",
        ["cause"],
        {(each,): int(each in found.causes) for each in CAUSES},
    )
    yield from gauge(
        "scim_ledger_build_info", "What runs; always 1.", ["version", "python"], {_BUILT: 1}
    )


async def of_store(service: Service, *, has_views: bool) -> AsyncIterator[str]:
    """What the ledger holds, and what it waits for. What a view does not tell is left out."""
    now = await service.figures.now()
    for name, help_, value in (
        ("newest_event_age_seconds", "How old the newest event is.", now.newest_event_age_s),
        ("append_lock_waiters", "Transactions that wait for the append lock.", now.lock_waiters),
        (
            "append_lock_longest_wait_seconds",
            "For how long the first of them has waited.",
            now.longest_wait_s,
        ),
    ):
        if value is not None:
            for line in gauge(f"scim_ledger_{name}", help_, [], {(): value}):
                yield line
    if has_views:
        at = await service.ledger.time()
        for ask in (_warnings, _expiring, _rotations_ending):
            with suppress(Unavailable):
                for line in await ask(service, at):
                    yield line
        for line in _figures(await service.figures.figures(at)):
            yield line


async def _warnings(service: Service, at: datetime) -> Iterator[str]:
    due_since = await service.warnings.due_since(at)
    waited_s = 0.0 if due_since is None else (at - due_since).total_seconds()
    return gauge(
        "scim_ledger_warnings_lag_seconds",
        "How long the first warning not told has waited.",
        [],
        {(): waited_s},
    )


async def _expiring(service: Service, at: datetime) -> Iterator[str]:
    return gauge(
        "scim_ledger_tokens_expiring",
        f"Tokens that end within days, {COUNTED} at most.",
        ["days"],
        _by_label(await service.warnings.expiring(at)),
    )


async def _rotations_ending(service: Service, at: datetime) -> Iterator[str]:
    return gauge(
        "scim_ledger_rotations_ending",
        f"Rotations that end within days, {COUNTED} at most.",
        ["days"],
        _by_label(await service.warnings.rotations_ending(at)),
    )


def _figures(found: Figures) -> Iterator[str]:
    if found.sizes is not None:
        help_ = "Size on disk, indexes included."
        yield from gauge("scim_ledger_table_bytes", help_, ["group"], _by_label(found.sizes))
    if found.tokens is not None:
        help_ = f"SCIM tokens, of the newest {TOKENS_COUNTED} that are not revoked, and that are."
        yield from gauge("scim_ledger_tokens", help_, ["state"], _by_label(found.tokens))
    if found.rotations is not None:
        yield from gauge(
            "scim_ledger_rotations",
            "Rotations; ending_in_use: that end within a day while the older secret is still used.",
            ["state"],
            {("underway",): found.rotations.underway, ("ending_in_use",): found.rotations.in_use},
        )


def _by_label(counts: Mapping[str, int] | Mapping[int, int]) -> Mapping[tuple[str, ...], float]:
    return {(str(value),): count for value, count in counts.items()}
