"""The outermost ASGI application: request ids, the doors, and API tokens before anything else."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from api.authentication import ApiTokens
from api.console.gate import ROOT as CONSOLE
from api.console.gate import ConsoleGate, show_problem
from api.doors.authorization import SCHEME, NotPresentable, read, speaks_basic
from api.doors.gateways import ROOT as GATEWAY_ROOT
from api.doors.gateways import GatewayDoors
from api.doors.scim.door import Forward, ScimDoor
from api.doors.scim_messages import ROOT as SCIM_ROOT
from api.errors import BadRequest, NoGoodToken
from api.http.asgi_answer import stamped
from api.http.deadline import ANSWER_WITHIN_S, AUTHENTICATE_WITHIN_S, answer_in_time
from api.http.methods import Methods, head_only, is_normal, send_options
from api.http.problem_types import ROOT as PROBLEMS
from api.http.problems import DENIED, Answer, answer, problem, send_problem
from api.random_ids import request_ids
from api.resources.leaks.gitlab import ROOT as GITLAB_ROOT
from api.resources.metrics import METRICS_PATH
from api.resources.metrics_token import MetricsTokens
from api.resources.pages import PUBLIC_PAGES
from api.service import Service
from api.telemetry.instruments import KEY as INSTRUMENTS
from domain.api_token.permissions import Permission
from domain.errors import StoreUnavailable

PUBLIC: Final = ("/healthz", "/readyz", "/openapi", "/docs", "/revoke", PROBLEMS)
AUTHENTICATING: Final = ("/verify", "/introspect")
"""What a service asks while its own client waits to be let in."""
BARE: Final = (GITLAB_ROOT,)
"""Where an API token may come without the word Bearer, as GitLab sends it."""
OF_OAUTH: Final = ("/introspect",)
"""Where an API token may come as a client's password, as clients of RFC 7662 send it."""
Door: TypeAlias = Callable[[HTTPScope, Receive, Send], Awaitable[None]]
Refuse: TypeAlias = Callable[[Send, HTTPScope, Answer], Awaitable[None]]
_BASIC: Final = 'Basic realm="scim-ledger", charset="UTF-8"'
_IS_SCIM: Final = "This is a SCIM token; the base URL ends in /scim/v2"
"""The prefix tells, so nobody is asked:
whoever configures an identity provider forgets the path.
"""


class Edge:
    """Every request gets an id; a SCIM path goes to its door;
    all else needs a good API token first.

    Without one, every route is 401, also those that do not exist: validation and routing come
    after. A path that is not in its normal form (`is_normal`) is none that exists.
    """

    def __init__(
        self,
        admin: ASGIApp,
        methods: Methods,
        service: Service,
        forward: Forward | None = None,
        *,
        public: Sequence[str] = PUBLIC,
        metrics_tokens: MetricsTokens | None = None,
        console: ConsoleGate | None = None,
    ) -> None:
        self._admin = admin
        self._api_tokens = ApiTokens(service)
        self._console = console
        self._methods = methods
        self._public = public
        self._metrics_tokens = metrics_tokens or MetricsTokens()
        self._service = service
        self._instruments = service.instruments
        self._next_request_id = request_ids()
        self._doors: Sequence[tuple[str, str, Door]] = [
            (GATEWAY_ROOT, f"{GATEWAY_ROOT}/", GatewayDoors(service.doors)),
            (SCIM_ROOT, f"{SCIM_ROOT}/", ScimDoor(service.doors, forward)),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection scope."""
        if scope["type"] != ScopeType.HTTP:
            scope.setdefault("state", {})[INSTRUMENTS] = self._instruments
            await self._admin(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = self._next_request_id()
        path = scope["path"]
        for root, below, door in self._doors:
            if path.startswith(below) or path == root:
                await door(scope, receive, send)
                return
        if self._console is not None and _is_within(path, (CONSOLE,)):
            route = partial(self._route, refuse=show_problem)
            show, refuse = partial(self._console.answer, route), self._console.refuse
            await answer_in_time(show, refuse, scope, receive, send, within_s=ANSWER_WITHIN_S)
            return
        within_s = AUTHENTICATE_WITHIN_S if _is_within(path, AUTHENTICATING) else ANSWER_WITHIN_S
        await answer_in_time(self._administer, _refuse, scope, receive, send, within_s=within_s)

    async def _administer(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        is_path = is_normal(scope["path"])
        try:
            if not (is_path and self._is_open(scope)):
                await self._authenticate(scope)
        except Exception as error:  # noqa: BLE001 - answered like any other, from one table
            await send_problem(send, scope, _in_the_callers_scheme(scope, answer(error)))
            return
        if is_path:
            await self._route(scope, receive, send)
        else:
            await send_problem(send, scope, Answer(problem(404), {}))

    async def _route(
        self, scope: HTTPScope, receive: Receive, send: Send, *, refuse: Refuse = send_problem
    ) -> None:
        """Hand a request that may come in to its route. Its path is in its normal form."""
        method, allowed = scope["method"], self._methods.of(scope["path"])
        if method == "OPTIONS" and allowed:
            await send_options(send, scope, allowed)
        elif method in allowed or not allowed:
            if method == "HEAD":
                scope, send = {**scope, "method": HttpMethod.GET}, head_only(send)
            await self._admin(scope, receive, self._stamping(scope, send))
        else:
            await refuse(send, scope, Answer(problem(405), {"Allow": ", ".join(allowed)}))

    def _is_open(self, scope: HTTPScope) -> bool:
        """Whether a request comes in without an API token."""
        if scope["path"] == METRICS_PATH and self._metrics_tokens.are_presented(scope):
            return True
        is_page = scope["path"] in PUBLIC_PAGES and scope["method"] in {"GET", "HEAD"}
        return is_page or _is_within(scope["path"], self._public)

    async def _authenticate(self, scope: HTTPScope) -> None:
        """Put the caller into the scope.

        Raises NoGoodToken, BadRequest, Unauthenticated, Unavailable.
        """
        try:
            secret = read(
                scope,
                is_bare_accepted=_is_within(scope["path"], BARE),
                is_basic_accepted=_is_within(scope["path"], OF_OAUTH),
            ).secret
        except NotPresentable as refusal:
            self._service.doors.refusals.count(refusal.reason, "api")
            if refusal.reason == "ambiguous":
                raise BadRequest(refusal.detail) from None
            was_presented = refusal.reason == "malformed" and refusal.detail != SCHEME
            raise NoGoodToken(refusal.detail, was_presented=was_presented) from None
        if secret.kind.startswith("scim_"):
            self._service.doors.refusals.count("unknown", "api")
            raise NoGoodToken(_IS_SCIM, was_presented=True)
        scope["user"] = await self._api_tokens.caller(scope, secret)

    def _stamping(self, scope: HTTPScope, send: Send) -> Send:
        """Stamps an answer, and records one that is given for want of a permission."""

        async def stamping(message: Message) -> None:
            denied = scope["state"].pop(DENIED, None)
            if denied is not None:
                await self._api_tokens.record_refusal(
                    scope, scope["user"], lacking=Permission(denied)
                )
            if message["type"] == "http.response.start":
                message["headers"] = stamped(scope, message["headers"])
            await send(message)

        return stamping


def _in_the_callers_scheme(scope: HTTPScope, refusal: Answer) -> Answer:
    """Challenged by the scheme that it spoke (RFC 6749 §5.2), and nobody else by that: a browser
    would ask for a password, and send it along for ever.
    """
    is_spoken = _is_within(scope["path"], OF_OAUTH) and speaks_basic(scope)
    if not is_spoken or refusal.problem.status != 401:  # noqa: PLR2004
        return refusal
    return Answer(refusal.problem, {**refusal.headers, "WWW-Authenticate": _BASIC})


async def _refuse(scope: HTTPScope, _: Receive, send: Send) -> None:
    await send_problem(send, scope, answer(StoreUnavailable("no answer within the deadline")))


def _is_within(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
