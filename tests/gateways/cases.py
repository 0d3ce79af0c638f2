"""The table: what must hold before any front.

Each case is one function; the fronts are in the test modules.

`LEDGER_CASES` talk to the real service. `SCRIPTED_CASES` put the front alone on trial, before
answers that a ledger rarely gives or should never give.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final
from uuid import uuid4

import httpx

from api.doors.decide import CHALLENGE, INVALID_TOKEN, REFUSED
from tests.gateways import scripted
from tests.gateways.fronts import CLIENT_ADDRESS, IDENTITY, Front, Ledger, assert_refused
from tests.stopwatch import Stopwatch

LedgerCase = Callable[[Front, Ledger], None]
ScriptedCase = Callable[[Front], None]
UNKNOWN: Final = "scim_live_" + "0" * 49
EVIL: Final = "evil"
SIGNS: Final = "-_.!#$%&'*+^`|~"
"""What a header's name may have besides letters and digits (RFC 9110 §5.6.2)."""
ENDS_WITHIN_S: Final = 4.5
"""The recipes say 2 s, HAProxy needs 3 s for one that is gone; a busy machine may take the rest."""

_WEBSOCKET: Final = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
TUNNELS: Final[Sequence[tuple[str, Mapping[str, str]]]] = (
    ("CONNECT scim.example:443 HTTP/1.1", {}),
    *(
        (f"{method} /scim/v2/Users HTTP/1.1", {"Upgrade": protocol, "Connection": nominated} | more)
        for method in ("GET", "DELETE")
        for protocol, nominated, more in (
            ("websocket", "Upgrade", _WEBSOCKET),
            ("h2c", "Upgrade, HTTP2-Settings", {"HTTP2-Settings": "AAMAAABkAAQAAP__"}),
            ("h2c", "upgrade", {}),
            ("any/1", "keep-alive, Upgrade", {}),
        )
    ),
)
"""Request lines and headers by which a connection stops being HTTP/1.1 (RFC 9110 §7.8, §9.3.6)."""
FAULTY: Final[Sequence[tuple[str, Sequence[str]]]] = (
    ("1.0", ()),  # without a Host, as health checks ask
    ("1.1", ("Host: scim.example:99999",)),
    ("1.1", ("Host: scim.example", f"Authorization: {UNKNOWN}", "Authorization: Bearer another")),
    ("1.1", ("Host: scim.example", f"Authorization: Bearer {UNKNOWN}\x01")),
    ("1.1", ("Host: scim.example", "User-Agent: a\x7fb")),
)
"""Versions and headers of requests without a good token."""


def users() -> str:
    """A path that no other request uses."""
    return f"/scim/v2/Users/{uuid4()}"


def spoofed() -> list[tuple[str, str]]:
    """Identity headers that a client makes up: listed, unlisted, repeated, in every spelling.

    CGI and WSGI read _ as -, PHP reads . as _, and lighttpd every sign that is no letter or digit.
    """
    listed = ("X-Scim-Team-Id", "X-Scim-Token-Id", "X-Scim-Use-Id")
    folded = [name.replace("-", sign) for name in (*listed, "X-Scim-Admin") for sign in SIGNS]
    mixed = ["X-Scim_Team-Id", "x_scim-token_id", "X-SCIM-USE-ID", "X-Scim.Team-Id"]
    return [(name, EVIL) for name in (*folded, *mixed)]


def without_a_token_nothing_gets_in(front: Front, _: Ledger) -> None:
    path = users()
    assert_refused(front.ask(path), 401, challenge=CHALLENGE)
    assert not front.recorder.to(path)


def a_token_that_nobody_issued_is_refused(front: Front, _: Ledger) -> None:
    path = users()
    answer = front.ask(path, UNKNOWN)
    assert_refused(answer, 401, challenge=INVALID_TOKEN)
    assert not front.recorder.to(path)


def the_ledgers_advice_reaches_the_administrator(front: Front, _: Ledger) -> None:
    answer = front.ask(users(), f"Bearer {UNKNOWN}")
    assert_refused(answer, 401, challenge=INVALID_TOKEN)
    assert ("twice" in answer.json()["detail"]) == front.is_detail_kept


def a_good_get_reaches_the_backend_with_its_identity(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    answer = front.ask(
        f"{path}?attributes=userName", token.secret, headers=[("User-Agent", "idp/1.0")]
    )
    assert answer.status_code == 200
    assert answer.json()["target"] == f"{path}?attributes=userName"
    reached = front.reached(path)
    assert [name for name, _ in reached.folded("x-scim")] == list(IDENTITY)
    team_id, token_id, use_id = (value for _, value in reached.folded("x-scim"))
    assert (team_id, token_id) == (token.team_id, token.id)
    assert use_id
    assert not reached.folded("authorization")
    assert token.secret not in str(reached)
    assert ledger.uses(token) == [
        {
            "door": front.door,
            "source": CLIENT_ADDRESS,
            "user_agent": "idp/1.0",
            "method": "GET",
            "path_class": "Users/{id}",
        }
    ]


def a_good_post_arrives_with_its_body(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), f"/scim/v2/{uuid4()}/Users"
    body = '{"userName": "zoë", "padding": "' + "x" * 100_000 + '"}'
    headers = [("Content-Type", "application/scim+json")]
    answer = front.ask(path, token.secret, method="POST", content=body.encode(), headers=headers)
    assert answer.status_code == 200
    reached = front.reached(path)
    assert (reached.method, reached.body) == ("POST", body)
    assert reached.folded("content-type") == [("content-type", "application/scim+json")]
    assert [(use["method"], use["path_class"]) for use in ledger.uses(token)] == [("POST", "Users")]


def every_method_is_asked_about_and_passed_on(front: Front, ledger: Ledger) -> None:
    token = ledger.issue()
    for method in ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"):
        path = users()
        assert_refused(front.ask(path, method=method), 401, challenge=CHALLENGE)
        assert not front.recorder.to(path)
        assert front.ask(path, token.secret, method=method).status_code == 200
        assert front.reached(path).method == method
    assert [use["method"] for use in ledger.uses(token)] == [
        "HEAD",
        "OPTIONS",
        "PUT",
        "PATCH",
        "DELETE",
    ]


def what_the_client_calls_itself_never_arrives(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    assert front.ask(path, token.secret, headers=spoofed()).status_code == 200
    reached = front.reached(path)
    assert [name for name, _ in reached.folded("x-scim")] == list(IDENTITY)
    assert reached.folded("x-scim")[:2] == [(IDENTITY[0], token.team_id), (IDENTITY[1], token.id)]
    assert EVIL not in str(reached.headers)


def what_the_client_names_in_connection_arrives_all_the_same(front: Front, ledger: Ledger) -> None:
    """A proxy drops what Connection names (RFC 9110 §7.6.1), and the next one after it, too."""
    token = ledger.issue()
    for name in IDENTITY:
        path = users()
        headers = [("Connection", f"{name}, {name.title()}")]
        assert front.ask(path, token.secret, headers=headers).status_code == 200
        reached = front.reached(path)
        assert [found for found, _ in reached.folded("x-scim")] == list(IDENTITY)
        if front.name not in {"asgi", "wsgi"}:  # behind these comes nobody who could drop it
            assert name not in str(reached.folded("connection")).lower()


def no_tunnel_gets_past_the_ledger(front: Front, ledger: Ledger) -> None:
    """The backend agrees to each; what follows on the connection would be asked about by nobody."""
    token = ledger.issue()
    for line, offered in TUNNELS:
        path = users()
        opening = [
            *(line, "Host: scim.example:443", f"Authorization: Bearer {token.secret}"),
            *(f"{name}: {value}" for name, value in offered.items()),
        ]
        inside = [f"GET {path} HTTP/1.1", "Host: scim.example", "X-Scim-Team-Id: evil"]
        front.speak(opening, inside)
        assert not front.recorder.to(path), (line, offered)


def a_client_without_a_name_has_none_in_the_trail(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    front.speak(
        [f"GET {path} HTTP/1.1", "Host: scim.example", f"Authorization: Bearer {token.secret}"]
    )
    front.reached(path)
    assert [use.get("user_agent") for use in ledger.uses(token)] == [None]


def a_fault_of_the_client_is_not_told_as_ours(front: Front, _: Ledger) -> None:
    """A 503 would be tried again for ever."""
    path = users()
    for version, headers in FAULTY:
        answer = front.speak([f"GET {path} HTTP/{version}", *headers])
        assert answer.split()[1].startswith(b"4"), (version, headers, answer)
    assert not front.recorder.to(path)


def what_the_client_calls_itself_does_not_let_it_in(front: Front, _: Ledger) -> None:
    path = users()
    assert_refused(front.ask(path, headers=spoofed()), 401, challenge=CHALLENGE)
    assert not front.recorder.to(path)


def the_trail_holds_the_real_method_and_path(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    lies = [
        *(
            ("X-Forwarded-Method", "DELETE"),
            ("X-Original-Method", "DELETE"),
            ("X-HTTP-Method-Override", "DELETE"),
        ),
        *(
            ("X-Forwarded-Uri", "/Bulk"),
            ("X-Original-URI", "/Bulk"),
            ("X-Original-URL", "http://a/Bulk"),
        ),
        *(
            ("X_Forwarded_Method", "DELETE"),
            ("X_Original_Method", "DELETE"),
            ("Forwarded", "for=1.1.1.1"),
        ),
    ]
    assert front.ask(path, token.secret, headers=lies).status_code == 200
    assert [(use["method"], use["path_class"]) for use in ledger.uses(token)] == [
        ("GET", "Users/{id}")
    ]


def the_trail_holds_where_a_request_came_from(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    lies = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Real-Ip", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9"),
    ]
    assert front.ask(path, token.secret, headers=lies).status_code == 200
    assert [use.get("source") for use in ledger.uses(token)] == [CLIENT_ADDRESS]


def a_token_in_the_query_opens_nothing(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    assert_refused(front.ask(f"{path}?access_token={token.secret}"), 401, challenge=CHALLENGE)
    assert not front.recorder.to(path)
    assert not ledger.uses(token)


def a_bare_token_gets_in(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    # as Okta's "Header" mode sends it
    answer = front.ask(path, headers=[("Authorization", token.secret)])
    assert answer.status_code == 200
    assert [use.get("form") for use in ledger.uses(token)] == ["bare"]


def a_revoke_counts_from_its_answer_on(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    assert front.ask(path, token.secret).status_code == 200
    ledger.revoke(token)
    for _ in range(5):
        answer = front.ask(path, token.secret)
        assert_refused(answer, 401, challenge=INVALID_TOKEN)
        assert (answer.json()["detail"] == REFUSED) == front.is_detail_kept
    assert len(front.recorder.to(path)) == 1


def networks_that_do_not_have_the_client_keep_it_out(front: Front, ledger: Ledger) -> None:
    token, inside, outside = ledger.issue(), f"{CLIENT_ADDRESS}/32", "192.0.2.0/24"
    for networks, status in (((outside, inside), 200), ((outside,), 401)):
        ledger.restrict(token, *networks)
        for headers in ((), (("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.1"))):
            path = users()
            answer = front.ask(path, token.secret, headers=headers)
            assert (answer.status_code, len(front.recorder.to(path))) == (status, status == 200)
    assert_refused(answer, 401, challenge=INVALID_TOKEN)


def each_use_is_told_apart_and_moves_last_used_at(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    assert ledger.last_used_at(token) is None
    front.ask(path, token.secret).raise_for_status()
    first = ledger.last_used_at(token)
    time.sleep(0.002)  # instants are whole milliseconds
    front.ask(path, token.secret).raise_for_status()
    second = ledger.last_used_at(token)
    assert first is not None
    assert second is not None
    assert first < second
    use_ids = {
        dict(reached.folded("x-scim"))["x-scim-use-id"] for reached in front.recorder.to(path)
    }
    assert len(use_ids) == 2


def a_ledger_that_hangs_lets_nobody_in(front: Front, ledger: Ledger) -> None:
    token, path = ledger.issue(), users()
    with _standing_still(ledger):
        started = time.monotonic()
        answer = front.ask(path, token.secret)
        took_s = time.monotonic() - started
    _assert_closed(front, answer)
    assert took_s < ENDS_WITHIN_S
    assert not front.recorder.to(path)
    assert front.ask(users(), token.secret).status_code == 200


LEDGER_CASES: Final[Sequence[LedgerCase]] = (
    without_a_token_nothing_gets_in,
    a_token_that_nobody_issued_is_refused,
    the_ledgers_advice_reaches_the_administrator,
    a_good_get_reaches_the_backend_with_its_identity,
    a_good_post_arrives_with_its_body,
    every_method_is_asked_about_and_passed_on,
    what_the_client_calls_itself_never_arrives,
    what_the_client_names_in_connection_arrives_all_the_same,
    no_tunnel_gets_past_the_ledger,
    a_client_without_a_name_has_none_in_the_trail,
    a_fault_of_the_client_is_not_told_as_ours,
    what_the_client_calls_itself_does_not_let_it_in,
    the_trail_holds_the_real_method_and_path,
    the_trail_holds_where_a_request_came_from,
    a_token_in_the_query_opens_nothing,
    a_bare_token_gets_in,
    a_revoke_counts_from_its_answer_on,
    networks_that_do_not_have_the_client_keep_it_out,
    each_use_is_told_apart_and_moves_last_used_at,
    a_ledger_that_hangs_lets_nobody_in,
)


def a_403_keeps_its_challenge(front: Front) -> None:
    path = users()
    assert_refused(front.ask(path, "forbidden"), 403, challenge=scripted.CHALLENGE)
    assert not front.recorder.to(path)


def a_429_keeps_its_retry_after(front: Front) -> None:
    path = users()
    answer = front.ask(path, "limited")
    assert_refused(answer, 429)
    assert answer.headers.get_list("retry-after") == ["7"]
    assert not front.recorder.to(path)


def a_503_comes_with_a_retry_after(front: Front) -> None:
    path = users()
    answer = front.ask(path, "unavailable")
    assert_refused(answer, 503)
    (retry_after,) = answer.headers.get_list("retry-after")
    # Envoy drops a 503 and makes its own
    assert retry_after == ("1" if front.name == "envoy" else "3")
    assert not front.recorder.to(path)


def an_answer_that_names_nobody_lets_no_spoofed_name_in(front: Front) -> None:
    for word in ("nameless", "blank"):
        path = users()
        front.ask(path, word, headers=spoofed())
        for reached in front.recorder.to(path):
            assert {value for _, value in reached.folded("x-scim")} <= {""}


def an_answer_that_is_neither_yes_nor_no_is_no(front: Front) -> None:
    for word in ("redirect", "lost", "broken"):
        path = users()
        assert front.ask(path, word).status_code >= 300
        assert not front.recorder.to(path)


SCRIPTED_CASES: Final[Sequence[ScriptedCase]] = (
    a_403_keeps_its_challenge,
    a_429_keeps_its_retry_after,
    a_503_comes_with_a_retry_after,
    an_answer_that_names_nobody_lets_no_spoofed_name_in,
    an_answer_that_is_neither_yes_nor_no_is_no,
)


def a_ledger_that_is_gone_lets_nobody_in(front: Front) -> None:
    """The ledger was stopped after the front had used it."""
    path = users()
    watch = Stopwatch()
    answer = front.ask(path, "good")
    _assert_closed(front, answer)
    assert watch.read_s() < ENDS_WITHIN_S
    assert not front.recorder.to(path)


def _assert_closed(front: Front, answer: httpx.Response) -> None:
    if front.name == "traefik":
        # makes no answers of its own: those of its proxy, without a body of SCIM's
        assert answer.status_code in {502, 504}
        return
    assert_refused(answer, 503)
    assert answer.headers.get_list("retry-after") == ["1"]


@contextmanager
def _standing_still(ledger: Ledger) -> Iterator[None]:
    pids = [pid for name, pid in ledger.service.program_pids().items() if name.startswith("worker")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(
                ProcessLookupError
            ):  # after 5 s the supervisor has put another in its place
                os.kill(pid, signal.SIGCONT)
