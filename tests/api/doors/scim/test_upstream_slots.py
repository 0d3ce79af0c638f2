"""A5: who may have how many connections to the upstream,
and for how long one waits for its turn.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.doors.client_address import ClientAddresses
from api.doors.scim import client
from api.doors.scim import pool as pools
from api.doors.scim.pool import MAX_CONNECTIONS, SHARE, NoSlot, ShareTaken, UpstreamSlots
from api.doors.scim.proxy import Upstream
from api.settings import Settings
from tests.api.doors.scim.proxied import Proxied
from tests.api.doors.scim.raw_upstream import raw_upstream
from tests.api.doors.scim.test_upstream_framing import Request, reached, send
from tests.api.doors.scim.upstream import running_upstream
from tests.api.http.hasty_loop import HastyLoop
from tests.conftest import Run, new_database
from tests.service import RunningService, running_service, until

ALICE, BOB = b"alice", b"bob"


def test_one_holder_has_a_share_and_leaves_the_rest(run: Run) -> None:
    async def story() -> None:
        slots = UpstreamSlots(most=3, share=2, wait_s=0.05)
        async with slots.taken(ALICE), slots.taken(ALICE):
            with pytest.raises(ShareTaken):
                async with slots.taken(ALICE):
                    pass
            async with slots.taken(BOB):
                with pytest.raises(NoSlot):
                    async with slots.taken(BOB):
                        pass
        assert not slots._held, "nothing is kept of who has none"
        async with slots.taken(ALICE), slots.taken(ALICE), slots.taken(BOB):
            pass

    run(story())


def test_a_place_that_becomes_free_goes_to_who_waited_longest(run: Run) -> None:
    async def story() -> None:
        slots, order = UpstreamSlots(most=1, share=9, wait_s=5), []

        async def take(name: int) -> None:
            async with slots.taken(b"%d" % name):
                order.append(name)

        async with slots.taken(ALICE):
            waiting = [asyncio.create_task(take(name)) for name in range(4)]
            await asyncio.sleep(0.01)
            waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert order == [0, 2, 3]
        assert not slots._held
        async with slots.taken(ALICE):
            pass

    run(story())


class Guests:
    """Who comes for a slot of two, is inside, leaves, or gives up."""

    def __init__(self, slots: UpstreamSlots) -> None:
        self._slots = slots
        self._leaves: dict[asyncio.Task[None], asyncio.Event] = {}
        self.inside: list[asyncio.Task[None]] = []

    def come(self) -> None:
        self._leaves[asyncio.create_task(self._visit())] = asyncio.Event()

    async def _visit(self) -> None:
        this = asyncio.current_task()
        assert this is not None
        with suppress(NoSlot):
            async with self._slots.taken(b"%d" % id(this)):
                self.inside.append(this)
                try:
                    assert len(self.inside) <= 2
                    await self._leaves[this].wait()
                finally:
                    self.inside.remove(this)

    def leave(self, which: int) -> None:
        if self.inside:
            self._leaves[self.inside[which % len(self.inside)]].set()

    def give_up(self, which: int) -> None:
        under_way = [task for task in self._leaves if not task.done()]
        if under_way:
            under_way[which % len(under_way)].cancel()

    async def end(self) -> None:
        for left in self._leaves.values():
            left.set()
        for ended in await asyncio.gather(*self._leaves, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError)


STEPS: Final = st.tuples(
    st.sampled_from(["come", "come", "leave", "give up", "turn", "turn", "wait"]),
    st.integers(0, 3),
)
A_PLACE_COMES_TO_ONE_WHO_GIVES_UP: Final = [
    *[("come", 0)] * 3,
    ("turn", 0),
    ("leave", 0),
    ("turn", 0),
    ("give up", 1),
]


@example(steps=A_PLACE_COMES_TO_ONE_WHO_GIVES_UP)
@example(steps=[*[("come", 0)] * 3, ("wait", 0)])
@given(steps=st.lists(STEPS, max_size=25))
def test_no_place_is_lost_and_none_is_made(steps: list[tuple[str, int]]) -> None:
    async def story() -> None:
        slots = UpstreamSlots(most=2, share=1, wait_s=1.0)
        guests = Guests(slots)
        for does, which in steps:
            if does == "come":
                guests.come()
            elif does == "leave":
                guests.leave(which)
            elif does == "give up":
                guests.give_up(which)
            else:
                await asyncio.sleep(1.0 if does == "wait" else 0)
        await guests.end()
        assert not slots._held
        async with slots.taken(ALICE), slots.taken(BOB):
            with pytest.raises(NoSlot):
                async with slots.taken(b"eve"):
                    pass

    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        runner.run(story())


def test_a_body_that_trickles_is_408_in_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BODY_WITHIN_S", 0.2)

    async def story() -> None:
        async with raw_upstream() as raw:
            upstream = Upstream(
                Settings(scim_upstream_url=f"http://127.0.0.1:{raw.port}"), ClientAddresses()
            )
            raw.behave["slow"] = "reads"
            request = Request([b"x"] * 100, 100, "reads")
            sent: list[Any] = await send(upstream, request, "slow", pause_s=0.05)
            assert sent[0]["status"] == 408
            assert raw.heard == []
            await upstream.aclose()

    run(story())


@pytest.fixture
def running(server: str) -> Iterator[RunningService]:
    """A service that waits for its clients as long as is usual."""
    with (
        new_database(server) as database,
        running_upstream() as upstream,
        running_service(database, environment={"SCIM_UPSTREAM_URL": upstream.url}) as started,
    ):
        yield started


@pytest.mark.long
def test_slow_uploads_of_one_token_leave_room_for_all_others(running: RunningService) -> None:
    caller = running.api_token()
    slow, other = (
        running.client.post(
            "/scim-token", auth=caller, json={"team_id": str(uuid4()), "name": name}
        ).json()["token"]
        for name in ("slow", "other")
    )
    address = urlsplit(running.url)
    with ExitStack() as uploads:

        def begin_upload() -> None:
            upload = socket.create_connection((address.hostname, address.port), timeout=10)
            uploads.enter_context(upload)
            upload.sendall(
                f"POST /scim/v2/sink HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {slow}\r\n"
                "Content-Length: 1000\r\n\r\nx".encode()
            )

        for _ in range(SHARE - 1):
            begin_upload()
        headers = {"Authorization": f"Bearer {slow}"}

        def is_share_taken() -> bool:
            begin_upload()  # in place of one that came while the look below had the last slot
            return running.client.get("/scim/v2/Users", headers=headers).status_code == 429

        until(is_share_taken, what="the share")
        refused = running.client.get("/scim/v2/Users", headers=headers)
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/scim+json"
        for _ in range(5):
            answer = running.client.get(
                "/scim/v2/Users", headers={"Authorization": f"Bearer {other}"}
            )
            assert answer.status_code == 200
    until(
        lambda: running.client.get("/scim/v2/Users", headers=headers).status_code == 200,
        what="room again",
    )


SHARES: Final = MAX_CONNECTIONS // SHARE


def test_a_share_is_a_quarter() -> None:
    assert SHARES == 4


def test_what_looks_like_a_request_inside_a_body_never_becomes_one(proxied: Proxied) -> None:
    """A1, through the whole service: upgrades are offered,
    and the upstream leaves bodies unread.
    """
    running, upstream = proxied.service, proxied.upstream
    team, caller = str(uuid4()), running.api_token()
    ask = {"team_id": team, "name": "smuggler"}
    token = running.client.post("/scim-token", auth=caller, json=ask).json()["token"]
    inner = "GET /tenant/scim/Users HTTP/1.1\r\nHost: x\r\nX-Scim-Team-Id: somebody-else\r\n\r\n"
    address = urlsplit(running.url)
    upstream.requests.clear()
    for path in ("Users", "refuse"):
        for offer in (
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "",
        ):
            for method in ("GET", "POST", "PATCH"):
                with socket.create_connection(
                    (address.hostname, address.port), timeout=10
                ) as client:
                    head = (
                        f"Host: x\r\nAuthorization: Bearer {token}\r\nContent-Length: "
                        f"{len(inner)}\r\n"
                    )
                    client.sendall(
                        f"{method} /scim/v2/{path} HTTP/1.1\r\n{offer}{head}\r\n{inner}".encode()
                    )
                    answer = client.recv(65536)
                    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 413"))
                plain = running.client.post(
                    f"/scim/v2/{path}", headers={"Authorization": f"Bearer {token}"}, content=inner
                )
                assert plain.status_code in {200, 413}
    assert len(upstream.requests) == 36
    assert {value for seen in upstream.requests for value in seen.values("x-scim-team-id")} == {
        team
    }


@pytest.mark.parametrize("is_closed", [False, True])
def test_an_idle_connection_is_hung_up_once(
    is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time, or when the pool is closed; what the loop catches is a traceback."""
    monkeypatch.setattr(pools, "KEEP_ALIVE_S", 0.02)
    caught: list[object] = []

    async def story(listener: socket.socket) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
        async with reached(listener) as (pool, connection, _):
            pool.give_back(connection)
            assert connection.is_usable
            if is_closed:
                pool.close()
            await asyncio.sleep(0.1)
            assert not connection.is_usable
            assert not pool._idle, "nothing is kept of what was hung up"
            assert pool.kept() is None

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(story(listener))
    assert caught == []
