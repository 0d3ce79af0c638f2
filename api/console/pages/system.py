"""The service itself: how far the views are, what was refused and why, what the doctor finds."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

from litestar import Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter, SkipValidation
from litestar.response import Redirect, Template

from api.admission import requires
from api.console.layout import Text, page
from api.doctor.examine import examine
from api.doctor.finding import Finding, Status
from api.http import problems
from api.http.json_body import StrictRequest
from api.resources.projections import InjectedView, named
from api.resources.view_status import (
    ProjectionStatus,
    RebuildStatus,
    all_positions,
    ask_for_rebuild,
    latest_rebuilds,
    rebuild_status_of,
    sees_all_teams,
    status_of,
    try_again,
)
from api.service import InjectedService, Service
from api.settings import Settings
from api.telemetry.catalogue import AUTHENTICATIONS, FIRST_CELLS, OUTCOMES
from domain.api_token.permissions import Permission
from domain.errors import AlreadyUnderway
from projections.projection import Projection
from projections.rebuild.requests import Rebuild
from projections.registry import PROJECTIONS

PATH: Final = "/console/system"
REASONS: Final = {
    "missing": "no secret was sent",
    "malformed": "what was sent is no secret of its kind",
    "ambiguous": "more than one secret was sent",
    "unknown": "a secret of no token",
    "revoked": "the token is revoked",
    "suspended": "the token is suspended",
    "network": "the address is in none of the token's networks",
    "expired": "the token or its secret has ended",
    "throttled": "beyond a rate",
    "unavailable": "the service could not tell: a fault of ours, answered 503",
}
"""Of whatever was not let in: what each reason of the metrics means."""
COMMANDS: Final = ("rebuild", "accept-difference", "retry")
DONE: Final = {
    "rebuild": "The rebuild is asked for. The view serves as before until the new one takes its"
    " place.",
    "retry": "The view tries the event again. If it still cannot be applied, the view stops again.",
}
BADGES: Final = {Status.OK: "active", Status.WARN: "soon", Status.FAIL: "over"}
_MAY: Final = requires(Permission.PROJECTIONS_MANAGE)
_NAMED: Final = {"view": Provide(named)}
_ONE_AT_A_TIME: Final = ThreadPoolExecutor(1, thread_name_prefix="doctor")
"""An examination has connections of its own, and however many ask, a worker makes one."""

InjectedSettings: TypeAlias = NamedDependency[SkipValidation[Settings]]
"""The parameter `settings` of a handler."""


class ViewRow(NamedTuple):
    """rebuild: the newest, of the version that this release reads. progress: percent, or None."""

    at: ProjectionStatus
    is_ours: bool
    rebuild: RebuildStatus | None
    progress: int | None

    @property
    def is_underway(self) -> bool:
        """Whether a rebuild is asked for or under way."""
        return self.rebuild is not None and self.rebuild.finished_at is None

    @property
    def has_failed(self) -> bool:
        """Whether the newest rebuild did, perhaps because its rows differ from the live ones."""
        return self.rebuild is not None and self.rebuild.state == "failed"


class Refused(NamedTuple):
    """doors: with the times of each, the busiest first."""

    reason: str
    told: str
    times: int
    doors: Sequence[tuple[str, int]]


@get(PATH, include_in_schema=False, opt=_MAY)
async def system(
    request: StrictRequest,
    service: InjectedService,
    settings: InjectedSettings,
    examines: Annotated[str | None, QueryParameter(name="examine", required=False)] = None,
    done: Text = None,
) -> Template:
    """Two statements besides the session's.

    examines: "1" asks the doctor. done: what was just asked for.
    """
    findings = None
    if examines == "1" and sees_all_teams(request.user):
        findings = await _examined(settings)
    return await _show(request, service, findings=findings, done=DONE.get(done or ""))


@get(
    [f"{PATH}/{{name:str}}/{command}" for command in COMMANDS],
    include_in_schema=False,
    opt=_MAY,
)
async def after_a_view_command(name: FromPath[str]) -> Redirect:  # noqa: ARG001 - of the path
    """Where a form was sent, asked for again: there is nothing to see but the page."""
    return Redirect(PATH, status_code=303)


@post(
    f"{PATH}/{{name:str}}/rebuild",
    include_in_schema=False,
    opt=_MAY,
    status_code=303,
    dependencies=_NAMED,
)
async def rebuild(
    request: StrictRequest, service: InjectedService, view: InjectedView
) -> Response[Any]:
    """Beside the live version, which answers until the new one takes its place."""
    return await _rebuild(request, service, view, accepts_difference=False)


@post(
    f"{PATH}/{{name:str}}/accept-difference",
    include_in_schema=False,
    opt=_MAY,
    status_code=303,
    dependencies=_NAMED,
)
async def accept_difference(
    request: StrictRequest, service: InjectedService, view: InjectedView
) -> Response[Any]:
    """The same; the new version takes its place even where its rows differ."""
    return await _rebuild(request, service, view, accepts_difference=True)


@post(
    f"{PATH}/{{name:str}}/retry",
    include_in_schema=False,
    opt=_MAY,
    status_code=303,
    dependencies=_NAMED,
)
async def retry(service: InjectedService, view: InjectedView) -> Redirect:
    """A view that stopped tries its event again; any other is left as it is."""
    await try_again(service.ledger.reads, view)
    return Redirect(f"{PATH}?done=retry", status_code=303)


async def _rebuild(
    request: StrictRequest, service: Service, view: Projection, *, accepts_difference: bool
) -> Response[Any]:
    try:
        await ask_for_rebuild(service.ledger.reads, view, accepts_difference=accepts_difference)
    except AlreadyUnderway as error:
        return await _show(request, service, refused=problems.answer(error))
    return Redirect(f"{PATH}?done=rebuild", status_code=303)


async def _show(
    request: StrictRequest,
    service: Service,
    *,
    findings: Sequence[Finding] | None = None,
    done: str | None = None,
    refused: problems.Answer | None = None,
) -> Template:
    sees_all = sees_all_teams(request.user)
    views = await _views(service, sees_all=sees_all)
    return page(
        request,
        "system.html",
        title="System",
        views=views,
        # not in the answer to a form: to look again by itself would send that again
        waits=findings is None and refused is None and any(row.is_underway for row in views),
        refusals=refusals(service.instruments.pages.sums()) if sees_all else (),
        sees_all=sees_all,
        findings=findings,
        counts=Counter(str(finding.status) for finding in findings or ()),
        badges=BADGES,
        done=done,
        refused=refused,
    )


async def _views(service: Service, *, sees_all: bool) -> list[ViewRow]:
    """Each version that is live or building, and of ours the newest rebuild."""
    reads = service.ledger.reads
    found, rebuilds = await all_positions(reads), await latest_rebuilds(reads, PROJECTIONS)
    rows = []
    for at in found:
        is_ours = any(at.is_live_of(view) for view in PROJECTIONS)
        newest = rebuilds.get(at.name) if is_ours else None
        rows.append(
            ViewRow(
                status_of(at, sees_all=sees_all),
                is_ours,
                None if newest is None else rebuild_status_of(newest, sees_all=sees_all),
                None if newest is None or not sees_all else _percent(newest),
            )
        )
    return rows


def _percent(of: Rebuild) -> int | None:
    return min(100, 100 * of.position // of.target) if of.target else None


def refusals(sums: Sequence[int]) -> list[Refused]:
    """What all workers together did not let in, the most frequent reason first."""
    by_reason: Mapping[str, Counter[str]] = {reason: Counter() for reason in REASONS}
    for (door, _, reason), cell in FIRST_CELLS[AUTHENTICATIONS.name].items():
        if OUTCOMES[reason] != "accepted" and sums[cell]:
            by_reason[reason][door] = sums[cell]
    rows = [
        Refused(reason, REASONS[reason], doors.total(), doors.most_common())
        for reason, doors in by_reason.items()
        if doors
    ]
    return sorted(rows, key=lambda row: -row.times)


async def _examined(settings: Settings) -> list[Finding]:
    """What `scim-ledger doctor` finds. The settings are those of this process: they are good."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_ONE_AT_A_TIME, examine, lambda: settings)


ROUTES: Final = (system, after_a_view_command, rebuild, accept_difference, retry)
