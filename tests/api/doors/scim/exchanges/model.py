"""What a client must get of an exchange, and when: the same promises as the proxy's, in the
plainest words. It knows of no bytes, connections or tasks, only of when something happens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from api.doors.scim.client import BODY_WITHIN_S
from tests.api.doors.scim.exchanges.script import (
    BIG,
    HEAD_S,
    IDLE_S,
    NEVER,
    SENDS_AFTER_S,
    Asks,
    Says,
)

LATE: Final = "it was late"
HUNG_UP: Final = "the upstream hung up"
CUT_OFF: Final = "the connection was cut off: Connection reset by peer"
Who: TypeAlias = Literal["client", "upstream"]


class Outcome(NamedTuple):
    """status: None where the client left before there was one. length: of the answer's body, where
    it is the upstream's. told: what the operator hears of a failure of the upstream. is_kept:
    whether the connection to the upstream serves another request.
    """

    at: float
    status: int | None
    length: int
    is_whole: bool
    told: str | None
    is_kept: bool
    is_body_sent: bool


@dataclass
class Turn:
    """Whose turn it is in the sending of the body, from when to when, and until when at most."""

    who: Who
    begins: float
    ends: float
    until: float


class Body:
    """The way of the request's body, if no answer begins meanwhile.

    faulty_at: it turns out not to be as long as its head says. sent_at: all of it went on.
    """

    def __init__(self, asks: Asks, read_at: float) -> None:
        self.faulty_at = self.sent_at = NEVER
        self.turns = list(self._turns(asks, read_at))

    def _turns(self, asks: Asks, read_at: float) -> Iterator[Turn]:
        now, length, held = 0.0, 0, 0
        for number, (wait, size) in enumerate(asks.pieces or ()):
            came = now + wait + SENDS_AFTER_S
            yield Turn("client", now, came, BODY_WITHIN_S)
            now, length, held = came, length + size, held + size
            is_last = number == len(asks.pieces or ()) - 1
            if asks.announced is not None and length > asks.announced:
                self.faulty_at = now
                return
            if is_last or length != asks.announced:
                if held >= BIG and read_at > now:
                    yield Turn("upstream", now, read_at, now + IDLE_S)
                    now = read_at
                held = 0
        if asks.announced not in {None, length}:
            self.faulty_at = now
            return
        self.sent_at = now
        yield Turn("upstream", now, NEVER, now + HEAD_S)

    def who_awaits(self, at: float) -> Who:
        """Whose turn it is in it."""
        return next((turn.who for turn in self.turns if turn.begins <= at < turn.ends), "upstream")

    def leaving(self, at: float) -> float:
        """When it is seen that the client left: not while the upstream does not take the body."""
        stuck = (t for t in self.turns if t.who == "upstream" and t.begins != self.sent_at)
        return next((turn.ends for turn in stuck if turn.begins <= at < turn.ends), at)


def expected(asks: Asks, says: Says) -> Outcome:
    """What comes of an exchange: until an answer begins, of whatever happens first."""
    body = Body(asks, says.is_read_at)
    left_at = body.leaving(asks.leaves_at)
    late = [(turn.until, turn.who) for turn in body.turns if turn.until < turn.ends]
    at, what = min(
        (left_at, "left"),
        (says.begins_at if says.has_head else NEVER, "answer"),
        (NEVER if says.has_head or says.ends == "silent" else says.begins_at, "broken"),
        (body.faulty_at, "fault"),
        *late[:1],
    )
    if what == "answer":
        return relayed(asks, says, body, left_at)
    is_sent = body.sent_at <= at
    if what == "left":
        return Outcome(at, None, 0, is_whole=False, told=None, is_kept=False, is_body_sent=is_sent)
    status = {"client": 408, "upstream": 504, "fault": 400, "broken": 502}[what]
    told = {504: LATE, 502: broken(says)}.get(status)
    return Outcome(
        at + asks.take_s(0),
        status,
        0,
        is_whole=True,
        told=told,
        is_kept=False,
        is_body_sent=is_sent,
    )


def broken(says: Says) -> str:
    """How the upstream broke off, in the operator's words."""
    return CUT_OFF if says.ends == "resets" else HUNG_UP


def relayed(asks: Asks, says: Says, body: Body, left_at: float) -> Outcome:
    """What comes of an answer that has begun."""
    status = 204 if says.framing == "none" else 200
    is_bodiless = says.framing == "none" or asks.method == "HEAD"
    whole_at = says.begins_at if is_bodiless else says.ends_at if says.ends == "whole" else NEVER
    broken_at = says.ends_at if says.ends in {"closes", "resets"} and whole_at == NEVER else NEVER
    faulty_at = body.faulty_at if body.faulty_at < min(whole_at, broken_at) else NEVER
    if faulty_at < NEVER:
        whole_at = broken_at = NEVER
    now: float = says.begins_at
    length = number = 0
    arrivals = [] if is_bodiless else [came for came in says.arrivals if came[0] < faulty_at]

    def outcome(at: float, *, told: str | None = None, is_whole: bool = False) -> Outcome:
        is_kept = (
            whole_at <= at
            and body_sent_at <= at
            and says.framing != "end of connection"
            and asks.method != "HEAD"
            and says.afterwards == "stays"
        )
        return Outcome(at, status, length, is_whole, told, is_kept, body_sent_at <= at)

    body_sent_at = 0 if asks.pieces is None else body.sent_at
    while True:
        comes_at = min([at for at, _ in arrivals] + [whole_at, broken_at, faulty_at])
        until = now + IDLE_S
        if left_at < min(max(comes_at, now), until):
            return outcome(left_at)
        if comes_at > until:
            return outcome(until, told=LATE if body.who_awaits(until) == "upstream" else None)
        now = max(now, comes_at)
        came = [size for at, size in arrivals if at <= now]
        if not came and whole_at > now:
            return outcome(now, told=broken(says) if broken_at <= now else None)
        del arrivals[: len(came)]
        is_last = whole_at <= now
        taken = now + asks.take_s(number)
        if left_at < min(taken, now + IDLE_S):
            length += sum(came)
            return outcome(left_at)
        length += sum(came)
        if taken > now + IDLE_S:
            return outcome(now + IDLE_S)
        now, number = taken, number + 1
        if is_last:
            return outcome(now, is_whole=True)
