"""A setup link opens as long as it was promised, whatever becomes of its token; and what opens
nothing is not ended, and shows nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import Struct

from domain.errors import NotFound, Refusal, SecretAlreadyShown
from domain.event import Recorded
from domain.scim_token.changes import change, resume, suspend
from domain.scim_token.events import ScimTokenEvent, SetupLinkCreated, SetupLinkEnded
from domain.scim_token.fold import evolve
from domain.scim_token.handover.decide import end_of, offer, opened_by, reveal, withdraw
from domain.scim_token.rotation import complete, rotate
from domain.scim_token.token import ScimToken
from domain.secret import Digest, secret_id
from domain.setup_link import LIFETIME
from tests.domain.scenario import ADA, COMMAND_ID, HOLDER, IDP, T0, TOKEN_ID, created, state_after

HOUR: Final = timedelta(hours=1)
ENDS: Final = (None, HOUR, LIFETIME, 2 * LIFETIME)


class Link(Struct):
    """What was promised of a link. is_over: withdrawn, or followed by another, or its token was
    suspended or revoked.
    """

    digest: Digest
    ends_at: datetime
    is_over: bool = False
    shown: Digest | None = None

    def opens(self, token: ScimToken, at: datetime) -> bool:
        token_lasts = token.expires_at is None or at < token.expires_at
        return not self.is_over and at < self.ends_at and token_lasts


class Life:
    """A token, and the links that there were for it."""

    def __init__(self) -> None:
        self.at = T0
        self.token = state_after(created())
        self.links: list[Link] = []

    def new(self, kind: int) -> Digest:
        """A digest of its own: of a link, or of a secret."""
        return Digest(bytes([kind, self.token.version]) * 16, 1)

    def happen(self, events: Sequence[ScimTokenEvent]) -> None:
        for event in events:
            place = self.token.version + 1
            self.token = evolve(self.token, Recorded(TOKEN_ID, place, self.at, COMMAND_ID, event))

    def close(self) -> None:
        for link in self.links:
            link.is_over = True

    def offer(self, _: int) -> None:
        digest = self.new(1)
        (made,) = offer(self.token, digest=digest, created_by=ADA, at=self.at)
        assert isinstance(made, SetupLinkCreated)
        ends_at = self.at + LIFETIME
        ends_at = min(ends_at, self.token.expires_at or ends_at)
        assert (made.ends_at, made.key_generation) == (ends_at, digest.key_generation)
        self.happen([made])
        self.close()
        self.links.append(Link(digest, ends_at))

    def withdraw(self, _: int) -> None:
        ended = withdraw(self.token, ended_by=ADA, at=self.at)
        open_ = [link for link in self.links if link.opens(self.token, self.at)]
        assert ended == [SetupLinkEnded(ADA, secret_id(link.digest.value)) for link in open_]
        self.happen(ended)
        if ended:
            self.close()

    def reveal(self, which: int) -> None:
        if not self.links:
            return
        link, digest = self.links[which % len(self.links)], self.new(2)
        can_be_tried = link.opens(self.token, self.at)
        try:
            events = reveal(
                self.token, [link.digest.value], digest=digest, holder=HOLDER, at=self.at
            )
        except NotFound:
            assert not can_be_tried
        except SecretAlreadyShown:
            assert can_be_tried
            assert link.shown is not None
        else:
            assert can_be_tried
            assert link.shown is None
            self.happen(events)
            link.shown = digest

    def change(self, which: int) -> None:
        end = ENDS[which % len(ENDS)]
        expires_at = None if end is None else self.at + end
        self.happen(change(self.token, expires_at=expires_at, by=ADA, reason=None, at=self.at))

    def suspend(self, _: int) -> None:
        self.happen(suspend(self.token, by=ADA, reason=None))
        self.close()

    def revoke(self, which: int) -> None:
        if which == 0:
            self.happen(self.token.revoke(by=ADA, reason=None))
            self.close()

    def use(self, _: int) -> None:
        newest, at = self.token.secrets[-1].digest.value, self.at
        self.happen(self.token.use(newest, presentation=IDP, count=1, first_at=at, at=at))

    def rotate(self, which: int) -> None:
        self.happen(
            rotate(self.token, digest=self.new(3), overlap=which * HOUR, rotated_by=ADA, at=self.at)
        )

    def check(self) -> None:
        """Each link, at the instant that it is."""
        for link in self.links:
            found = opened_by(self.token, [b"\xff" * 32, link.digest.value], at=self.at)
            assert (found is not None) == link.opens(self.token, self.at)
            if found is not None:
                last = min(link.ends_at, self.token.expires_at or link.ends_at)
                assert end_of(found, self.token) == last
                shown = link.shown and secret_id(link.shown.value)
                assert (found.secret, found.revealed_at is None) == (shown, shown is None)


STEPS: Final[Mapping[str, Callable[[Life, int], None]]] = {
    "offer": Life.offer,
    "withdraw": Life.withdraw,
    "reveal": Life.reveal,
    "change": Life.change,
    "suspend": Life.suspend,
    "resume": lambda life, _: life.happen(resume(life.token, by=ADA, reason=None)),
    "complete": lambda life, _: life.happen(complete(life.token, completed_by=ADA, at=life.at)),
    "use": Life.use,
    "rotate": Life.rotate,
    "revoke": Life.revoke,
}
WAITS: Final = (timedelta(seconds=10), HOUR, LIFETIME - HOUR, LIFETIME)


@settings(max_examples=150)
@given_any(
    steps=st.lists(
        st.tuples(
            st.sampled_from([*STEPS, *("offer", "reveal") * 2, "change"]),
            st.integers(0, 3),
            st.sampled_from(WAITS[:1] * 4 + WAITS[1:]),
        ),
        max_size=25,
    )
)
@example([("offer", 0, WAITS[0]), ("change", 1, HOUR), ("withdraw", 0, WAITS[0])])
def test_a_link_opens_until_its_end_or_what_ends_it(
    steps: list[tuple[str, int, timedelta]],
) -> None:
    life = Life()
    for step, which, wait in steps:
        with suppress(Refusal):
            STEPS[step](life, which)
        life.check()
        life.at += wait
        life.check()
