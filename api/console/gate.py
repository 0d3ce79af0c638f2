"""The console's entrance: whose session it is, where changes come from, what a browser may do."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode

from litestar.types import HTTPScope, Message, Receive, Send

from api.authentication import ApiTokens
from api.console import cookie
from api.console.rendering import ENGINE
from api.console.same_origin import require_same_origin
from api.doors.client_address import first_field
from api.http.asgi_answer import respond
from api.http.methods import is_normal
from api.http.problems import Answer, Problem, answer
from api.resources.scim_token.setup_link import ROOT as SETUP
from api.service import Service
from domain.errors import NotFound, StoreUnavailable, Unauthenticated

ROOT: Final = "/console"
SIGN_IN: Final = f"{ROOT}/sign-in"
SIGN_OUT: Final = f"{ROOT}/sign-out"
ASSETS: Final = f"{ROOT}/assets"
HTML: Final = "text/html; charset=utf-8"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
COOKIE: Final = "session_cookie"
"""In a request's state: what the cookie is called that its session came in."""
PROXY_UNKNOWN: Final = "is_proxy_unknown"
"""In a request's state: its session is for https alone, and it came over plain http."""
_NO_STORE: Final = (b"cache-control", b"no-store")
Onward: TypeAlias = Callable[[HTTPScope, Receive, Send], Awaitable[None]]


class ConsoleGate:
    """Lets a browser in that has a session; anybody sees how to sign in."""

    def __init__(self, service: Service) -> None:
        self._addresses = service.doors.client_addresses
        self._api_tokens = ApiTokens(service)

    async def answer(self, onward: Onward, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Answer a request for a page, or hand it `onward`."""
        send = _guarded(scope, send)
        if not is_normal(scope["path"]):
            await show_problem(send, scope, answer(NotFound("no such page")))
            return
        try:
            require_same_origin(scope, self._addresses)
            is_in = _is_open(scope["path"]) or await self._enter(scope)
        except Exception as error:  # noqa: BLE001 - answered like any other, from one table
            await show_problem(send, scope, answer(error))
            return
        if is_in:
            await onward(scope, receive, send)
        elif first_field(scope, b"sec-fetch-site") == "cross-site":
            page = ENGINE.get_template("continue.html").render().encode()
            await respond(send, scope, status=200, media_type=HTML, body=page, headers={})
        else:
            await respond(
                send,
                scope,
                status=303,
                media_type=HTML,
                body=b"",
                headers={"Location": _sign_in_from(scope)},
            )

    async def refuse(self, scope: HTTPScope, _: Receive, send: Send) -> None:
        """Answer a request whose time is over."""
        late = StoreUnavailable("no answer within the deadline")
        await show_problem(_guarded(scope, send), scope, answer(late))

    async def _enter(self, scope: HTTPScope) -> bool:
        """Put the session into the scope as the caller, if there is one that is good."""
        for name in cookie.names_of(scope, self._addresses):
            if await self._enter_by(name, scope):
                is_plain = self._addresses.origin(scope).scheme == "http"
                scope["state"][PROXY_UNKNOWN] = is_plain and name == cookie.SECURE
                scope["state"][COOKIE] = name
                return True
        return False

    async def _enter_by(self, name: str, scope: HTTPScope) -> bool:
        secret = cookie.secret_of(scope, name)
        if secret is None or secret.kind.startswith("scim_"):
            return False
        try:
            caller = await self._api_tokens.caller(scope, secret)
        except Unauthenticated:
            return False
        if caller.api_token.session_of is None:
            return False
        scope["user"] = caller
        return True


def _is_open(path: str) -> bool:
    return path == SIGN_IN or path.startswith((f"{ASSETS}/", f"{SETUP}/"))


def _guarded(scope: HTTPScope, send: Send) -> Send:
    """Adds to every answer what a browser may do with it.

    No page is kept anywhere; styles and the script are, for as long as the release is the same.
    """
    is_asset = scope["path"].startswith(f"{ASSETS}/")

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message["headers"]
                if is_asset or name.lower() != _NO_STORE[0]
            ]
            message["headers"] = [*kept, *_HEADERS, *(() if is_asset else (_NO_STORE,))]
        await send(message)

    return guarded


def _sign_in_from(scope: HTTPScope) -> str:
    """Where to sign in, and what was asked for before that: of a form, the page that it is of."""
    if scope["path"] in {ROOT, SIGN_OUT}:
        return SIGN_IN
    if scope["method"] not in {"GET", "HEAD"}:
        return f"{SIGN_IN}?{urlencode({'to': scope['path'], 'lost': 'form'}, safe='/')}"
    query = scope["query_string"].decode("latin-1")
    asked = scope["path"] + (f"?{query}" if query else "")
    return f"{SIGN_IN}?to={quote(asked, safe='/')}"


def of_problem(scope: HTTPScope, problem: Problem) -> dict[str, Any]:
    """What the page of a problem is made of.

    Whoever came by a setup link has no console to go back to: their gateway may publish none.
    """
    return {
        "problem": problem,
        "request_id": scope["state"]["request_id"],
        "by_link": scope["path"].startswith(f"{SETUP}/"),
    }


async def show_problem(send: Send, scope: HTTPScope, found: Answer) -> None:
    """Answer with the page of a problem."""
    page = ENGINE.get_template("problem.html").render(of_problem(scope, found.problem))
    await respond(
        send,
        scope,
        status=found.problem.status,
        media_type=HTML,
        body=page.encode(),
        headers=found.headers,
    )
