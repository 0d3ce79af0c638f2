"""Whatever upstream and client do in an exchange, and however long they take for it: the client
gets what it must, in time; the operator is told of what is the upstream's fault; and a connection
is kept if it surely carries another request.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import example, given, settings

from api.doors.scim.client import Client
from api.doors.scim.connection import Answer
from tests.api.doors.scim.exchanges.model import CUT_OFF, HUNG_UP, expected
from tests.api.doors.scim.exchanges.running import PAYLOAD, framed, run
from tests.api.doors.scim.exchanges.script import BIG, NEVER, Asks, Says, exchanges


def check(exchange: tuple[Asks, Says]) -> None:
    asks, says = exchange
    must, found = expected(asks, says), run(asks, says)
    if found.is_hung_up_on and not found.outcome.is_body_sent:
        must = must._replace(is_body_sent=False)  # whoever hung up did not read it
    told = found.outcome.told
    if says.ends == "closes" and told == CUT_OFF:
        told = HUNG_UP  # whoever hangs up with something unread resets
    assert found.outcome._replace(at=0, told=told) == must._replace(at=0)
    assert found.outcome.at == pytest.approx(must.at, abs=1e-6)
    if must.length:
        assert found.body == PAYLOAD[: must.length]
    assert framed(asks).startswith(found.sent)


def asked(takes: list[int], leaves_at: float = NEVER) -> Asks:
    return Asks("GET", None, None, takes, leaves_at)


SLOWLY: Final = [(0, 1), (1, 0)]
UNTRUE: Final = [(1, 1), (5, 1)]
WHOLE: Final = Says("length", [1], True, [], "whole", 0, "stays", 0.125)
UNREAD: Final = Says("length", [1], True, [], "whole", 0, "stays", NEVER)
TAKEN_LATE: Final = (Asks("POST", [(0, BIG)], None, [1], NEVER), UNREAD)
TO_THE_END: Final = Says("end of connection", [1], True, [(4, 7)], "whole", 3, "stays", 0.125)
RESET: Final = Says("end of connection", [1], True, [], "resets", 1, "stays", NEVER)
OF_A_HEAD: Final = (Asks("HEAD", None, None, [5], NEVER), WHOLE)
NOT_TAKEN: Final = (Asks("POST", SLOWLY, None, [5], NEVER), WHOLE)
LEAVES_WITH_THE_LAST_PIECE: Final = (Asks("POST", [(0, 1), (3, 0)], None, [1], 1.25), WHOLE)
UNTRUE_MEANWHILE: Final = (Asks("POST", UNTRUE, 7, [4], NEVER), TO_THE_END)
SILENT: Final = Says("length", [1], False, [], "silent", 1, "stays", 0.125)
TRICKLES: Final = (Asks("POST", [(0, 1), (61, 1)], None, [], NEVER), SILENT)
IS_RESET: Final = (asked([]), RESET)


@settings(max_examples=80, deadline=None)
@example(exchange=OF_A_HEAD)
@example(exchange=NOT_TAKEN)
@example(exchange=TAKEN_LATE)
@example(exchange=LEAVES_WITH_THE_LAST_PIECE)
@example(exchange=UNTRUE_MEANWHILE)
@example(exchange=IS_RESET)
@example(exchange=TRICKLES)
@given(exchange=exchanges())
def test_each_side_gets_what_the_other_said_in_its_time(exchange: tuple[Asks, Says]) -> None:
    check(exchange)


@pytest.mark.long
@settings(max_examples=3000, deadline=None)
@given(exchange=exchanges())
def test_so_it_is_in_many_exchanges(exchange: tuple[Asks, Says]) -> None:
    check(exchange)


DRIPS: Final = (asked([]), Says("length", [1], True, [(4, 1)] * 4, "whole", 0, "stays", 0.125))
SAYS_MORE: Final = (asked([]), Says("length", [1], True, [], "whole", 0, "says more", 0.125))
ENDS: Final = Answer.end
PLANTED: Final[list[tuple[Any, str, object, tuple[Asks, Says]]]] = [
    (Client, "grant_idle", lambda _: None, DRIPS),
    (Client, "is_awaited", property(lambda _: False), NOT_TAKEN),
    (Answer, "is_clean", property(lambda _: True), SAYS_MORE),
    (Answer, "end", lambda self, _: ENDS(self, None), IS_RESET),
]


@pytest.mark.parametrize(("where", "what", "wrong", "exchange"), PLANTED)
def test_planted_what_differs_is_found(
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    what: str,
    wrong: Callable[..., Any],
    exchange: tuple[Asks, Says],
) -> None:
    check(exchange)
    monkeypatch.setattr(where, what, wrong)
    with pytest.raises(AssertionError):
        check(exchange)
