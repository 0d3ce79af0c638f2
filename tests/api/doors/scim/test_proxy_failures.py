"""`/scim/v2` in front of a real SCIM service: bodies, and what happens when it fails."""

import socket
from contextlib import closing, suppress
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from api.doors.scim.proxy import MAX_CONNECTIONS
from tests.api.doors.scim.proxied import Proxied, assert_scim_error
from tests.api.doors.scim.upstream import PIECE
from tests.service import until

MEGABYTE: Final = 1024 * 1024


def failures(proxied: Proxied, answer: httpx.Response) -> list[str]:
    """Why a request failed, as the log says."""
    return [
        line["reason"]
        for line in proxied.service.records()
        if line["event"] == "upstream.failed"
        and line["request_id"] == answer.headers["x-request-id"]
    ]


class TestBodies:
    @pytest.mark.parametrize("path", ["empty", "unchanged"])
    def test_204_and_304_have_none_and_the_connection_goes_on(
        self, proxied: Proxied, path: str
    ) -> None:
        with closing(proxied.connect()) as connection:
            for _ in range(2):
                headers = {"Authorization": f"Bearer {proxied.token}"}
                connection.request("GET", f"/scim/v2/{path}", headers=headers)
                answer = connection.getresponse()
                assert answer.status in {204, 304}
                assert answer.read() == b""
                assert answer.getheader("transfer-encoding") is None
                assert answer.getheader("content-length") is None

    def test_head_has_none_but_says_how_long_it_would_be(self, proxied: Proxied) -> None:
        with closing(proxied.connect()) as connection:
            for _ in range(2):
                headers = {"Authorization": f"Bearer {proxied.token}"}
                connection.request("HEAD", "/scim/v2/Users", headers=headers)
                answer = connection.getresponse()
                assert answer.getheader("content-length") == "12"
                assert answer.read() == b""

    def test_a_body_of_known_length_keeps_it(self, proxied: Proxied) -> None:
        assert proxied.request("POST", "Users", content=b"12345").json() == {"length": 5}
        assert proxied.upstream.last.values("content-length") == ["5"]
        assert "transfer-encoding" not in proxied.upstream.last.names

    @pytest.mark.parametrize(
        ("method", "said"), [("POST", ["0"]), ("PUT", ["0"]), ("PATCH", ["0"]), ("GET", [])]
    )
    def test_that_there_is_no_body_is_said_where_one_is_expected(
        self, proxied: Proxied, method: str, said: list[str]
    ) -> None:
        assert proxied.request(method, "Users").json() == {"length": 0}
        assert proxied.upstream.last.values("content-length") == said

    def test_a_chunked_body_stays_chunked(self, proxied: Proxied) -> None:
        assert proxied.request("POST", "Users", content=iter([b"123", b"45"])).json() == {
            "length": 5
        }
        assert proxied.upstream.last.values("transfer-encoding") == ["chunked"]
        assert "content-length" not in proxied.upstream.last.names

    def test_pieces_pass_as_they_come(self, proxied: Proxied) -> None:
        """The answer's first piece is here before the request's second one was sent."""
        with closing(proxied.connect()) as connection:
            connection.putrequest("POST", "/scim/v2/mirror")
            connection.putheader("Authorization", f"Bearer {proxied.token}")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            connection.send(b"3\r\none\r\n")
            answer = connection.getresponse()
            assert answer.read(3) == b"one"
            connection.send(b"3\r\ntwo\r\n0\r\n\r\n")
            assert answer.read() == b"two"

    def test_a_client_that_waits_for_100_continue_gets_it_once(self, proxied: Proxied) -> None:
        address = urlsplit(proxied.service.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            client.sendall(
                f"POST /scim/v2/continue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                f"{proxied.token}\r\n"
                "Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
            )
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"{}")
            answer = b"".join(iter(lambda: client.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"100 Continue" not in answer
        assert answer.endswith(b'{"length":2}')

    def test_an_answer_before_the_end_of_the_request_gets_through(self, proxied: Proxied) -> None:
        answer = proxied.request("POST", "refuse", content=(PIECE for _ in range(20)))
        assert answer.status_code == 413
        assert answer.text == "too large"

    def test_50_megabytes_pass_both_ways_through_little_memory(self, proxied: Proxied) -> None:
        proxied.request("POST", "sink", content=PIECE)
        before = proxied.worker_rss()
        answer = proxied.request("POST", "sink", content=(PIECE for _ in range(800)))
        assert int(answer.text) == 50 * MEGABYTE
        with proxied.service.client.stream(
            "GET", "/scim/v2/big", headers={"Authorization": f"Bearer {proxied.token}"}
        ) as big:
            assert sum(map(len, big.iter_raw())) == 50 * MEGABYTE
        assert proxied.worker_rss() - before < 20 * MEGABYTE

    def test_a_client_is_read_no_faster_than_the_upstream_takes_it(self, proxied: Proxied) -> None:
        before = proxied.worker_rss()
        with closing(proxied.connect()) as connection:
            connection.putrequest("POST", "/scim/v2/slow-reader")
            connection.putheader("Authorization", f"Bearer {proxied.token}")
            connection.putheader("Content-Length", str(400 * MEGABYTE))
            connection.endheaders()
            connection.sock.settimeout(0.3)
            sent = 0
            with suppress(TimeoutError):
                while sent < 400 * MEGABYTE:
                    sent += connection.sock.send(PIECE)
            assert sent < 100 * MEGABYTE, "more than the buffers of four sockets hold"
            assert proxied.worker_rss() - before < 10 * MEGABYTE
            connection.sock.settimeout(10)
            assert connection.getresponse().status == 504

    def test_the_upstream_is_read_no_faster_than_the_client_takes_it(
        self, proxied: Proxied
    ) -> None:
        before = proxied.worker_rss()
        with closing(proxied.connect()) as connection:
            headers = {"Authorization": f"Bearer {proxied.token}"}
            connection.request("GET", "/scim/v2/stream", headers=headers)
            connection.getresponse()
            # Not read on: the time for a piece passes, and the upstream is left alone.
            assert proxied.upstream.was_left.wait(10)
        assert proxied.upstream.sent < 30 * MEGABYTE
        assert proxied.worker_rss() - before < 10 * MEGABYTE


class TestWhenItFails:
    def test_an_upstream_that_does_not_answer_is_504(self, proxied: Proxied) -> None:
        answer = proxied.request("GET", "hang")
        assert_scim_error(answer, 504)
        assert failures(proxied, answer) == ["it was late"]
        assert proxied.upstream.was_left.wait(10)

    def test_nor_after_a_body(self, proxied: Proxied) -> None:
        assert_scim_error(proxied.request("POST", "hang", content=b"{}"), 504)
        assert proxied.upstream.was_left.wait(10)

    @pytest.mark.parametrize("path", ["stall", "die", "die-chunked"])
    def test_an_answer_that_stops_short_does_not_look_whole(
        self, proxied: Proxied, path: str
    ) -> None:
        told = len(proxied.service.records())
        with pytest.raises(httpx.RemoteProtocolError):
            proxied.request("GET", path)
        assert proxied.request("GET", "Users").is_success
        lines = [line["event"] for line in proxied.service.records()[told:]]
        assert lines == ["upstream.failed"], "what is wrong is told once"

    @pytest.mark.parametrize("path", ["hang", "stream"])
    def test_a_client_that_leaves_ends_the_upstreams_work(
        self, proxied: Proxied, path: str
    ) -> None:
        connection = proxied.connect()
        connection.request(
            "GET", f"/scim/v2/{path}", headers={"Authorization": f"Bearer {proxied.token}"}
        )
        assert proxied.upstream.has_begun.wait(10)
        connection.close()
        assert proxied.upstream.was_left.wait(0.6), "before its time was over"

    def test_nor_does_half_a_request_look_whole(self, proxied: Proxied) -> None:
        connection = proxied.connect()
        connection.putrequest("POST", "/scim/v2/sink")
        connection.putheader("Authorization", f"Bearer {proxied.token}")
        connection.putheader("Content-Length", "10")
        connection.endheaders()
        connection.send(b"12345")
        assert proxied.upstream.has_begun.wait(10)
        connection.close()
        assert proxied.upstream.was_left.wait(10)
        assert proxied.upstream.received == 5

    def test_clients_that_leave_use_no_connection_up(self, proxied: Proxied) -> None:
        before = proxied.uses()
        for _ in range(MAX_CONNECTIONS + 20):
            with closing(proxied.connect()) as connection:
                headers = {"Authorization": f"Bearer {proxied.token}"}
                connection.request("GET", "/scim/v2/hang", headers=headers)
        until(
            lambda: proxied.uses() == before + MAX_CONNECTIONS + 20, what="letting all of them in"
        )
        assert proxied.request("GET", "Users").is_success

    def test_an_upstream_that_is_away_is_502_and_served_again_when_it_is_back(
        self, proxied: Proxied
    ) -> None:
        assert proxied.request("GET", "Users").is_success
        before = proxied.uses()
        with proxied.upstream.away():
            answer = proxied.request("GET", "Users")
            assert_scim_error(answer, 502)
            assert "cannot be reached" in answer.text
            (reason,) = failures(proxied, answer)
            assert "refused" in reason.lower() or "connect call failed" in reason.lower()
            assert_scim_error(proxied.request("POST", "Users", content=b"{}"), 502)
        assert proxied.request("POST", "Users", content=b"{}").is_success
        assert proxied.uses() == before + 3, "the token was good each time"
