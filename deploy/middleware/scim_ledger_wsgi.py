"""WSGI middleware: the SCIM token ledger in front of your SCIM application.

Copy it; standard library only.

    application = ScimLedgerMiddleware(application, "http://127.0.0.1:8080")

Every request is asked about at the ledger's /gateway/forward. Only its 200 lets one through:
without the token, with the ledger's identity as HTTP_X_SCIM_TEAM_ID, HTTP_X_SCIM_TOKEN_ID and
HTTP_X_SCIM_USE_ID, and without any header of the client that has "scim" in its name. Its 401, 403,
429 and 503 go to the client as they are, and so do 400, 414 and 431: it cannot read what the client
sent. Everything else, and silence, is 503. It opens one connection to the ledger per request.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection, responses
from time import monotonic
from typing import Any
from urllib.parse import quote, urlsplit

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
Answer = tuple[int, dict[str, str], bytes]

IDENTITY = ("x-scim-team-id", "x-scim-token-id", "x-scim-use-id")
ANSWERED = (400, 401, 403, 414, 429, 431, 503)
KEPT = ("content-type", "www-authenticate", "retry-after", "cache-control")
ANSWER_MAX_BYTES = 65_536
UNAVAILABLE: Answer = (
    503,
    {"content-type": "application/scim+json", "retry-after": "1"},
    (
        b'{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"503",'
        b'"detail":"The token cannot be checked right now. Try again."}'
    ),
)


class ScimLedgerMiddleware:
    """app: your application. ledger_url: of the ledger. timeout_s: for each step of its answer."""

    def __init__(self, app: Application, ledger_url: str, *, timeout_s: float = 2.0) -> None:
        self._app = app
        self._url = urlsplit(ledger_url)
        self._timeout_s = timeout_s

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        try:
            status, headers, body = self._ask(environ)
        except Exception:  # noqa: BLE001 - whatever went wrong, nobody gets in
            status, headers, body = UNAVAILABLE
        identity = {name: headers.get(name, "") for name in IDENTITY}
        if status == HTTPStatus.OK and all(identity.values()):
            ours = {
                f"HTTP_{name.upper().replace('-', '_')}": value for name, value in identity.items()
            }
            return self._app({**_cleaned(environ), **ours}, start_response)
        if status not in ANSWERED:
            status, headers, body = UNAVAILABLE
        kept = [(name, headers[name]) for name in KEPT if name in headers]
        start_response(f"{status} {responses[status]}", [*kept, ("content-length", str(len(body)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _ask(self, environ: Environ) -> Answer:
        # WSGI's strings are bytes in disguise (PEP 3333); the ledger wants the path quoted again.
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        question = {
            "X-Forwarded-Method": environ["REQUEST_METHOD"],
            "X-Forwarded-Uri": quote(path.encode("latin-1")),
            "X-Forwarded-For": environ.get("REMOTE_ADDR", "unknown"),
        }
        for name, key in (
            ("Authorization", "HTTP_AUTHORIZATION"),
            ("User-Agent", "HTTP_USER_AGENT"),
        ):
            if key in environ:
                question[name] = environ[key]
        connect = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        connection = connect(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        ends_at = monotonic() + self._timeout_s
        try:
            connection.request(
                "GET", f"{self._url.path.rstrip('/')}/gateway/forward", headers=question
            )
            answer = connection.getresponse()
            body = answer.read(ANSWER_MAX_BYTES)
        finally:
            connection.close()
        if monotonic() > ends_at:
            raise TimeoutError
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def _cleaned(environ: Environ) -> Environ:
    """Without the token, and without any spelling of our own headers."""
    return {
        key: value
        for key, value in environ.items()
        if key != "HTTP_AUTHORIZATION" and not (key.startswith("HTTP_") and "SCIM" in key.upper())
    }
