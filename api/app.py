"""Build the ASGI application of one HTTP process from its settings."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from litestar import Litestar, Request, Response, Router
from litestar.di import Provide
from litestar.template.config import TemplateConfig
from litestar.types import ASGIApp

from api.admission import FOR_ANYONE, admit, require_declarations
from api.bulk_revocation import BulkRevoker
from api.clock_and_ids import CLOCK_AND_IDS
from api.console import routes as console
from api.console.gate import ROOT as CONSOLE
from api.console.gate import ConsoleGate
from api.console.rendering import ENGINE
from api.doors.client_address import ClientAddresses
from api.doors.decide import Doors
from api.doors.rate_limit import RateLimits
from api.doors.refusals import RefusalCounter
from api.doors.scim.door import Forward
from api.doors.scim.proxy import Upstream
from api.edge import PUBLIC, Edge
from api.http import problems
from api.http.cursor import Cursors
from api.http.json_body import StrictRequest
from api.http.methods import Methods
from api.http.openapi import Described, document
from api.resources import introspection
from api.resources.api_calls import call_of, command_key
from api.resources.api_token.resource import ApiTokenController
from api.resources.api_token.whoami import whoami
from api.resources.audit.trail import AuditController, TokenHistoryController
from api.resources.feed import follow_events
from api.resources.health import healthz, readyz
from api.resources.leaks.adapters import leak_adapters, signed_paths
from api.resources.leaks.report import report_leaks
from api.resources.metrics import METRICS_PATH, metrics
from api.resources.metrics_token import metrics_tokens
from api.resources.pages import ASSETS, PAGES, root
from api.resources.policy import PolicyController
from api.resources.projections import ProjectionController
from api.resources.scim_token.change import ChangeController
from api.resources.scim_token.documented import ScimTokenController
from api.resources.scim_token.listing import ScimTokenListController
from api.resources.scim_token.networks import NetworksController
from api.resources.scim_token.revocation import BulkRevocationController
from api.resources.scim_token.rotation import RotationController
from api.resources.scim_token.secrets import SecretsController
from api.resources.scim_token.setup_link import SetupLinkController
from api.resources.scim_token.setup_link_state import SetupLinkStateController
from api.resources.scim_token.suspension import SuspensionController
from api.service import Service
from api.settings import Settings, load, pepper_keys, trusted_networks
from api.shutdown_notice import on_leave
from api.telemetry.instruments import DoorInstruments, Instruments
from api.telemetry.logs import configure_logging
from api.telemetry.pages import Pages
from api.telemetry.tracing import tracing_of
from domain.commands import ClockAndIds
from domain.errors import PermissionDenied
from domain.eventstore.commit_turn import ALONE, SharedCommitTurn
from domain.eventstore.known_head.requirement import watched
from domain.ledger import TokenLedger
from domain.secret import Pepper
from projections.audit_trail.queries import AuditQueries
from projections.figures.queries import FigureQueries
from projections.follow.ledger_head import LedgerHeadWatch
from projections.follow.wake_ups import Waker
from projections.scim_tokens.as_of import AsOfQueries
from projections.scim_tokens.matching import TokenMatches
from projections.scim_tokens.queries import TokenQueries
from projections.scim_tokens.secrets import SecretQueries
from projections.token_activity.queries import ActivityQueries
from projections.usage.queries import UsageQueries
from projections.warnings.queries import WarningQueries

if TYPE_CHECKING:
    from api.telemetry.traces import Tracing

MAX_BODY_BYTES: Final = 64 * 1024

RESOURCES: Final[Sequence[Any]] = (
    ScimTokenController,
    ScimTokenListController,
    RotationController,
    BulkRevocationController,
    ApiTokenController,
    whoami,
    SecretsController,
    ChangeController,
    SuspensionController,
    SetupLinkController,
    SetupLinkStateController,
    NetworksController,
    TokenHistoryController,
    AuditController,
    follow_events,
    PolicyController,
    ProjectionController,
    metrics,
    *introspection.OPERATIONS,
    report_leaks,
    healthz,
    readyz,
)


def create_app() -> ASGIApp:
    """The ASGI application for a worker process. Raises SettingsError."""
    settings = load()
    configure_logging(settings.log_level, settings.log_format)
    tracing = tracing_of(settings)
    edge = build(settings, tracing=tracing)
    return edge if tracing is None else tracing.around(edge)


def build(
    settings: Settings,
    *,
    clock_and_ids: ClockAndIds = CLOCK_AND_IDS,
    tracing: "Tracing | None" = None,
) -> Edge:
    """The application for given settings; it opens no connection before its first request.

    tracing: follows batches and what is asked of the upstream; requests, where it is around this.
    """
    service = assemble(settings, clock_and_ids, tracing)
    limited = service.instruments.doors.limited
    upstream = (
        None
        if settings.scim_upstream_url is None
        else Upstream(settings, service.doors.client_addresses, limited=limited)
    )
    forward: Forward | None = None if upstream is None else upstream.forward
    if tracing is not None and forward is not None:
        forward = tracing.upstream(forward)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        on_leave(service.heads.leave)
        ledger = service.ledger
        async with service.doors.refusals.running(), watched(ledger.known_head, ledger.reads):
            yield
        if upstream is not None:
            await upstream.aclose()
        await ledger.aclose()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    # Controllers share a path, and its OPTIONS, within one router only.
    resources = Router("/", route_handlers=[*RESOURCES, *leak_adapters(settings)])
    pages = [root(console=CONSOLE if settings.console else None), *PAGES]
    if settings.console:
        pages.append(console.router(settings))
    admin = Litestar(
        route_handlers=[resources, *pages],
        dependencies={
            "service": Provide(lambda: service, sync_to_thread=False),
            "call": Provide(call_of, sync_to_thread=False),
            "key": Provide(command_key),
        },
        request_class=StrictRequest,
        before_request=admit,
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={Exception: partial(_handle, has_console=settings.console)},
        lifespan=[lifespan],
        openapi_config=document(assets=ASSETS, opt=FOR_ANYONE),
        template_config=TemplateConfig(instance=ENGINE),
        plugins=[Described()],
        logging_config=None,
    )
    require_declarations(admin.routes)
    return _behind_the_edge(admin, settings, service, forward)


def _behind_the_edge(
    admin: Litestar, settings: Settings, service: Service, forward: Forward | None
) -> Edge:
    metrics_path = (METRICS_PATH,) if settings.public_metrics else ()
    return Edge(
        admin,
        Methods(admin.routes),
        service,
        forward,
        public=(*PUBLIC, *metrics_path, *signed_paths(settings)),
        metrics_tokens=metrics_tokens(settings.metrics_token_file),
        console=ConsoleGate(service) if settings.console else None,
    )


def assemble(
    settings: Settings, clock_and_ids: ClockAndIds, tracing: "Tracing | None" = None
) -> Service:
    """The ledger, its queries and its doors, for given settings; it opens no connection yet."""
    assert settings.database_url is not None
    pepper = Pepper(pepper_keys(settings))
    waker = Waker(settings.wake_fd)
    pages = Pages(settings.metrics_fd, settings.worker_number)
    instruments = Instruments(pages, logs_access=settings.access_log, tracer=tracing)
    ledger = TokenLedger(
        settings.database_url,
        pepper=pepper,
        clock_and_ids=clock_and_ids,
        is_live=settings.environment == "live",
        secret_prefix=settings.secret_prefix,
        revokes_leaked=settings.on_leak == "revoke",
        on_append=waker.appended,
        commit_turn=ALONE if settings.turn_fd is None else SharedCommitTurn(settings.turn_fd),
        instruments=instruments.ledger,
        head_file=settings.head_file,
    )
    instruments.read_connections_max.set(ledger.reads.size)
    heads = LedgerHeadWatch(ledger.reads)
    return Service(
        ledger,
        TokenQueries(ledger.reads, waker=waker),
        Cursors(pepper.derived("cursor"), require_all_keys=ledger.require_all_keys),
        _doors(settings, ledger, instruments.doors, clock_and_ids),
        as_of=AsOfQueries(ledger.reads, waker=waker),
        audit=AuditQueries(ledger.reads, waker=waker),
        usage=UsageQueries(ledger.reads, waker=waker),
        warnings=WarningQueries(ledger.reads),
        secrets=SecretQueries(ledger.reads, waker=waker),
        activity=ActivityQueries(ledger.reads, waker=waker),
        heads=heads,
        bulk=BulkRevoker(ledger, TokenMatches(ledger.reads, waker=waker), heads),
        figures=FigureQueries(ledger.reads),
        instruments=instruments,
        has_console=settings.console,
        has_upstream=settings.scim_upstream_url is not None,
        scim_base_url=settings.scim_base_url,
    )


def _doors(
    settings: Settings,
    ledger: TokenLedger,
    instruments: DoorInstruments,
    clock_and_ids: ClockAndIds,
) -> Doors:
    refusals = RefusalCounter(
        ledger,
        clock=clock_and_ids.clock,
        new_id=clock_and_ids.new_id,
        authentications=instruments.authentications,
    )
    return Doors(
        ledger,
        client_addresses=ClientAddresses(trusted_networks(settings)),
        limits=RateLimits(per_token=settings.rate_per_token, per_source=settings.rate_per_source),
        refusals=refusals,
        instruments=instruments,
    )


def _handle(request: Request[Any, Any, Any], error: Any, *, has_console: bool) -> Response[Any]:
    if has_console and request.scope["path"].startswith(f"{CONSOLE}/"):  # no route's of its own
        return console.show_error(request, error)
    if isinstance(error, PermissionDenied):
        request.scope["state"][problems.DENIED] = error.permission
    found = problems.answer(error)
    return Response(
        problems.encode(found.problem, request.scope["state"]["request_id"]),
        status_code=found.problem.status,
        media_type=problems.MEDIA_TYPE,
        headers=found.headers,
    )
