"""`scim-ledger projections …`: list, rebuild and check the views."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import rich.progress
from cyclopts import App, Parameter

from api.cli.console import LINE_EVERY_S, AsJson, DataDir, connection, show
from domain.errors import InvalidValue, NotFound
from projections.described import rfc3339, rfc3339_or_none
from projections.follow import positions
from projections.follow.low_priority import give_way
from projections.follow.positions import Position
from projections.projection import Projection, UnappliableEvent
from projections.rebuild import requests as rebuild_requests
from projections.rebuild import run as rebuild
from projections.rebuild import shapes
from projections.rebuild.requests import Rebuild
from projections.rebuild.steps import Progress
from projections.registry import PROJECTIONS

app = App(name="projections", help="Views: how far they are, and their rebuild.")

Name = Annotated[str, Parameter(help=f"One of {', '.join(each.name for each in PROJECTIONS)}.")]
All = Annotated[bool, Parameter(name="--all", help="Every view, one after another.")]


@app.command(name="list")
def list_(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every view: version, position, lag, state."""
    with connection(data_dir) as opened:
        found = positions.all_positions(opened)
    show([_fields(at) for at in found], as_json=as_json)


@app.command(name="show")
def show_(name: Name, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One view, as this release reads it."""
    projection = _named(name)
    with connection(data_dir) as opened:
        at = positions.live_position(opened, projection)
    if at is None:
        raise NotFound(f"the view {name} is not built yet in the shape of this release")
    show(_fields(at), as_json=as_json)


@app.command(name="rebuild")
def rebuild_(
    name: Name | None = None,
    *,
    all_: All = False,
    accept_difference: Annotated[
        bool,
        Parameter(help="Switch even where the new rows differ: to repair a damaged view."),
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Build a view anew from the first event, beside the live one, and switch to it."""
    done = []
    with connection(data_dir) as opened:
        give_way(opened)
        for projection in _asked(name, is_all=all_):
            with _progress(projection.name, as_json=as_json) as report:
                version = rebuild.rebuild(
                    opened, projection, report=report, accepts_difference=accept_difference
                )
            done.append({"name": projection.name, "version": version})
    show(done if all_ else done[0], as_json=as_json)


@app.command(name="rebuild-status")
def rebuild_status(name: Name, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """How far the latest rebuild of a view is, or how it ended, whoever asked for it."""
    projection = _named(name)
    with connection(data_dir) as opened:
        found = rebuild_requests.latest(opened, projection)
    if found is None:
        raise NotFound(f"the view {name} was never rebuilt")
    show(_rebuild_fields(found), as_json=as_json)


@app.command(name="retry")
def retry(name: Name, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let a stopped view try its event again, after the cause was mended."""
    projection = _named(name)
    with connection(data_dir) as opened:
        was_stopped = positions.retry(opened, projection)
    show({"name": name, "was_stopped": was_stopped}, as_json=as_json)


@app.command(name="verify")
def verify_views(
    name: Name | None = None, *, data_dir: DataDir = None, as_json: AsJson = False
) -> int:
    """Fold a view anew, or all of them, and compare; nothing is switched.

    Exit code 1 on a difference.
    """
    found: list[Mapping[str, Any]] = []
    with connection(data_dir) as opened:
        give_way(opened)
        for projection in _asked(name, is_all=name is None):
            with _progress(projection.name, as_json=as_json) as report:
                try:
                    difference = rebuild.check_view(opened, projection, report=report)
                    told = None if difference is None else str(difference)
                except UnappliableEvent as poison:
                    told = f"{projection.name}: {poison}"
            found.append({"name": projection.name, "is_good": told is None, "difference": told})
    show(found, as_json=as_json)
    return 0 if all(each["is_good"] for each in found) else 1


@app.command(name="drop-old")
def drop_old(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Drop the tables that were switched away from,
    and those of older releases that run no more.
    """
    with connection(data_dir) as opened:
        dropped = shapes.drop_old(opened, PROJECTIONS)
    show({"dropped": dropped}, as_json=as_json)


def _named(name: str) -> Projection:
    known = {projection.name: projection for projection in PROJECTIONS}
    if name not in known:
        raise InvalidValue("NAME", f"must be one of {', '.join(known)}")
    return known[name]


def _asked(name: str | None, *, is_all: bool) -> Sequence[Projection]:
    if (name is None) != is_all:
        raise InvalidValue("NAME", "give the name of one view, or --all")
    return PROJECTIONS if name is None else [_named(name)]


def _fields(at: Position) -> Mapping[str, Any]:
    return {
        "name": at.name,
        "version": at.version,
        "shape": at.shape,
        "state": at.state,
        "position": at.position,
        "head": at.head,
        "lag": at.lag,
        "lag_s": round(at.lag_s(positions.now()), 3),
        "stopped_at": at.stopped_at,
        "error": at.error,
        "updated_at": rfc3339(at.updated_at),
    }


def _rebuild_fields(found: Rebuild) -> Mapping[str, Any]:
    rate, eta_s = found.events_per_s, found.eta_s
    return {
        "name": found.name,
        "state": found.state,
        "version": found.version,
        "position": found.position,
        "target": found.target,
        "events_per_s": None if rate is None else round(rate, 1),
        "eta_s": None if eta_s is None else round(eta_s, 1),
        "error": found.error,
        "accepts_difference": found.accepts_difference,
        "requested_at": rfc3339(found.requested_at),
        "started_at": rfc3339_or_none(found.started_at),
        "finished_at": rfc3339_or_none(found.finished_at),
    }


@contextmanager
def _progress(name: str, *, as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """Progress on standard error: a bar in a terminal, a line a second elsewhere,
    objects with --json.
    """
    began = time.monotonic()
    if as_json or not sys.stderr.isatty():
        told = ("", -LINE_EVERY_S)

        def line(at: Progress) -> None:
            nonlocal told
            now = time.monotonic()
            if at.state == told[0] and now - told[1] < LINE_EVERY_S:
                return
            told = (at.state, now)
            rate = at.position / (now - began) if now > began else 0.0
            eta_s = (at.head - at.position) / rate if rate else None
            if as_json:
                fields = {"name": name, "state": at.state, "position": at.position, "head": at.head}
                print(json.dumps(fields | {"events_per_s": rate, "eta_s": eta_s}), file=sys.stderr)
            else:
                eta = "" if eta_s is None else f", {rate:,.0f} events/s, {eta_s:.0f} s left"
                print(f"{name}: {at.state}, {at.position:,} of {at.head:,}{eta}", file=sys.stderr)

        yield line
        return
    columns = (
        *rich.progress.Progress.get_default_columns()[:3],
        rich.progress.TextColumn(
            "{task.completed:,.0f} of {task.total:,.0f}, {task.fields[rate]:,.0f} events/s"
        ),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as bar:
        task = bar.add_task(name, total=1, rate=0.0)

        def draw(at: Progress) -> None:
            rate = at.position / max(time.monotonic() - began, 0.001)
            bar.update(
                task,
                description=f"{name}: {at.state}",
                total=at.head,
                completed=at.position,
                rate=rate,
            )

        yield draw
