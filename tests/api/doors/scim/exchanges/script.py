"""What an upstream and a client do in one exchange, step by step. Times are in seconds of a clock
that does not wait (`HastyLoop`).

No two things happen at one time: what the upstream does is at whole seconds, and what the client
does a little behind them, so that what is to come of it is certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final, Literal, TypeAlias

from hypothesis import strategies as st

HEAD_S: Final = 10.5
IDLE_S: Final = 4.5
BIG: Final = 1 << 20
"""Bytes that no socket's buffers hold."""
SENDS_AFTER_S: Final = 1 / 29
TAKES_AFTER_S: Final = 1 / 1024
LEAVES_AFTER_S: Final = 1 / 4
READS_AFTER_S: Final = 1 / 8
NEVER: Final = float("inf")

Framing: TypeAlias = Literal["length", "chunked", "end of connection", "none"]
Ending: TypeAlias = Literal["whole", "silent", "closes", "resets"]
Afterwards: TypeAlias = Literal["stays", "closes", "says more", "closes later", "says more later"]


@dataclass(frozen=True)
class Says:
    """An answer. head: seconds before each part of it; without has_head, it ends in
    place of the last of them. pieces: of the body, seconds before each
    and its bytes. ends: how, so many seconds after the last piece.

    is_read_at: when the request's body begins to be read. afterwards: of an answer that is whole.
    """

    framing: Framing
    head: Sequence[int]
    has_head: bool
    pieces: Sequence[tuple[int, int]]
    ends: Ending
    ends_after_s: int
    afterwards: Afterwards
    is_read_at: float

    @property
    def begins_at(self) -> int:
        return sum(self.head)

    @property
    def arrivals(self) -> list[tuple[int, int]]:
        """When how many bytes of the body come."""
        times = accumulate((wait for wait, _ in self.pieces), initial=self.begins_at)
        return list(zip(list(times)[1:], (size for _, size in self.pieces), strict=True))

    @property
    def may_hang_up(self) -> bool:
        is_last_word = self.ends == "whole" and not self.afterwards.startswith("closes")
        return self.framing == "end of connection" or not (self.ends == "silent" or is_last_word)

    @property
    def length(self) -> int:
        """Of the body, in bytes."""
        return sum(size for _, size in self.pieces)

    @property
    def ends_at(self) -> int:
        return self.begins_at + sum(wait for wait, _ in self.pieces) + self.ends_after_s


@dataclass(frozen=True)
class Asks:
    """A request. pieces: of the body, seconds before each and its bytes; None: it has no body.
    announced: the bytes that its head says, None for chunked. takes: how long it takes each part of
    the answer in. leaves_at: a second, or never.
    """

    method: Literal["GET", "HEAD", "POST"]
    pieces: Sequence[tuple[int, int]] | None
    announced: int | None
    takes: Sequence[int]
    leaves_at: float

    def take_s(self, number: int) -> float:
        return (self.takes[number] if number < len(self.takes) else 0) + TAKES_AFTER_S


WAITS: Final = st.sampled_from([1, 1, 1, 2, 4, 5])
SIZES: Final = st.sampled_from([1, 7, 300])


@st.composite
def answers(draw: st.DrawFn) -> Says:
    framing: Framing = draw(
        st.sampled_from(["length", "length", "chunked", "chunked", "end of connection", "none"])
    )
    head = draw(st.lists(st.sampled_from([1, 1, 2, 5, 12]), min_size=1, max_size=2))
    pieces: list[tuple[int, int]] = draw(st.lists(st.tuples(WAITS, SIZES), max_size=6))
    if framing == "none":
        pieces = []
    if draw(st.booleans()) and pieces:
        pieces[0] = (0, pieces[0][1])
    ends: Ending = draw(st.sampled_from(["whole", "whole", "whole", "silent", "closes", "resets"]))
    if ends == "closes" and framing == "end of connection":
        ends = "whole"
    has_head = ends == "whole" or draw(st.integers(0, 3)) > 0
    if framing == "none" and has_head:
        ends = "whole"
    is_whole_with_last = ends == "whole" and framing in {"length", "none"}
    after = 0 if is_whole_with_last else draw(WAITS)
    afterwards: Afterwards = draw(
        st.sampled_from(
            ["stays", "stays", "closes", "says more", "closes later", "says more later"]
        )
    )
    is_read_at = draw(st.sampled_from([0, 0, 0, 2, 6, NEVER])) + READS_AFTER_S
    if ends == "resets":
        is_read_at = NEVER
    elif framing == "end of connection" and is_read_at == NEVER:
        is_read_at = 0.0  # else the end would be a reset
    return Says(framing, head, has_head, pieces, ends, after, afterwards, is_read_at)


@st.composite
def requests(draw: st.DrawFn) -> Asks:
    method: Literal["GET", "HEAD", "POST"] = draw(
        st.sampled_from(["GET", "GET", "HEAD", "POST", "POST", "POST"])
    )
    pieces = announced = None
    if method == "POST":
        sizes = st.sampled_from([1, 1, 30, BIG])
        waits = st.sampled_from([0, 0, 1, 3, 5, 20, 61])
        pieces = draw(st.lists(st.tuples(waits, sizes), min_size=1, max_size=4))
        if draw(st.booleans()):
            pieces.append((draw(waits), 0))
        length = sum(size for _, size in pieces)
        announced = draw(
            st.sampled_from([None, None, length, length, length, length + 5, max(length - 3, 1)])
        )
    takes = draw(st.lists(st.sampled_from([0, 0, 0, 1, 3, 4, 5]), max_size=6))
    leaves_at = draw(st.sampled_from([NEVER, NEVER, NEVER, *range(16)]))
    return Asks(method, pieces, announced, takes, leaves_at + LEAVES_AFTER_S)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Asks, Says]:
    asks, says = draw(requests()), draw(answers())
    if BIG in {size for _, size in asks.pieces or ()} and says.may_hang_up:
        # That it left could be seen in the moment when the upstream hangs up, which does not read.
        asks = replace(asks, leaves_at=NEVER)
    return asks, says
