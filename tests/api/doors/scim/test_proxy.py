"""`/scim/v2` in front of a real SCIM service:
what passes, what does not, and what happens when it fails.
"""

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from api.doors.scim.proxy import MAX_CONNECTIONS
from api.doors.scim_messages import ERROR
from tests.api.doors.scim.upstream import BASE_PATH, PIECE, RecordingUpstream, running_upstream
from tests.conftest import new_database
from tests.service import RunningService, running_service, until

MEGABYTE: Final = 1024 * 1024
IDENTITY: Final = {"x-scim-team-id", "x-scim-token-id", "x-scim-use-id"}


@dataclass(frozen=True)
class Proxied:
    """A service in front of an upstream, and a token to get through."""

    service: RunningService
    upstream: RecordingUpstream
    token: str
    token_id: UUID
    team_id: UUID

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        return self.service.client.request(method, f"/scim/v2/{path}", headers=headers, **options)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.service.url).netloc, timeout=10)

    def worker_rss(self) -> int:
        """Bytes of memory that the one worker holds."""
        status = Path(f"/proc/{self.service.program_pids()['worker-1']}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def uses(self) -> int:
        """How many uses of the token are in the ledger."""
        ((uses,),) = self.service.query(
            "SELECT uses FROM ledger.heads WHERE originator_id = %s", self.token_id
        )
        return int(uses)


@pytest.fixture(scope="module")
def started(server: str) -> Iterator[Proxied]:
    with new_database(server) as database, running_upstream() as upstream:
        settings = {
            "SCIM_UPSTREAM_URL": upstream.url,
            "SCIM_LEDGER_UPSTREAM_HEAD_TIMEOUT_S": "0.7",
            "SCIM_LEDGER_UPSTREAM_IDLE_TIMEOUT_S": "0.7",
            "SCIM_LEDGER_TRUSTED_PROXIES": "127.0.0.9",
        }
        with running_service(database, environment=settings) as service:
            team_id = uuid4()
            caller = service.api_token()
            made = service.client.post(
                "/scim-token", auth=caller, json={"team_id": str(team_id), "name": "proxied"}
            ).json()
            yield Proxied(service, upstream, made["token"], UUID(made["id"]), team_id)


@pytest.fixture
def proxied(started: Proxied) -> Proxied:
    upstream = started.upstream
    upstream.requests.clear()
    for event in (upstream.has_begun, upstream.was_left, upstream.release):
        event.clear()
    return started


def assert_scim_error(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    body = answer.json()
    assert body == {"schemas": [ERROR], "status": str(status), "detail": body["detail"]}
    assert "127.0.0.1" not in answer.text


class TestWhoGetsThrough:
    def test_a_good_token_gets_through_with_its_identity_and_the_use_on_record(
        self, proxied: Proxied
    ) -> None:
        before = proxied.uses()
        answer = proxied.request("GET", "Users/7")
        assert answer.status_code == 200
        seen = proxied.upstream.last
        assert seen.values("x-scim-team-id") == [str(proxied.team_id)]
        assert seen.values("x-scim-token-id") == [str(proxied.token_id)]
        (use_id,) = seen.values("x-scim-use-id")
        topics = proxied.service.query(
            "SELECT topic FROM ledger.events WHERE command_id = %s", UUID(use_id)
        )
        assert topics == [("scim_token.used.v1",)]
        assert proxied.uses() == before + 1

    @pytest.mark.parametrize(
        "path", ["Users", "ServiceProviderConfig", "ResourceTypes", "Schemas", "", "nowhere"]
    )
    @pytest.mark.parametrize("authorization", [None, "Bearer scim_live_x", "non-token"])
    def test_without_a_good_token_nothing_reaches_the_upstream(
        self, proxied: Proxied, path: str, authorization: str | None
    ) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = proxied.service.client.get(f"/scim/v2/{path}", headers=headers)
        assert_scim_error(answer, 401)
        assert proxied.upstream.requests == []

    def test_discovery_is_the_upstreams(self, proxied: Proxied) -> None:
        assert proxied.request("GET", "ServiceProviderConfig").json() == {"length": 0}

    @pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
    def test_a_method_that_is_not_of_scim_stays_here(self, proxied: Proxied, method: str) -> None:
        answer = proxied.request(method, "Users")
        assert_scim_error(answer, 405)
        assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
        assert proxied.upstream.requests == []

    @pytest.mark.parametrize(
        "path",
        [
            "../admin",
            "%2e%2e/admin",
            "Users/..%2f..%2fadmin",
            "Users/%2e/1",
            "Users/..%5cadmin",
            "..",
        ],
    )
    def test_no_address_leads_out_of_the_upstreams_path(self, proxied: Proxied, path: str) -> None:
        with closing(proxied.connect()) as connection:
            connection.putrequest("GET", f"/scim/v2/{path}", skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {proxied.token}")
            connection.endheaders()
            answer = connection.getresponse()
            assert answer.status == 400
            assert answer.headers["content-type"] == "application/scim+json"
        assert proxied.upstream.requests == []


class TestWhatPasses:
    @pytest.mark.parametrize("method", ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"])
    def test_every_method_of_scim_does(self, proxied: Proxied, method: str) -> None:
        assert proxied.request(method, "Users").status_code == 200
        assert proxied.upstream.last.method == method

    def test_path_and_query_arrive_as_they_were_sent(self, proxied: Proxied) -> None:
        sent = "Users/a%2Fb%20c;v=1?filter=userName%20eq%20%22a%2Bb%22&x=%zz&&=+"
        with closing(proxied.connect()) as connection:
            connection.putrequest("GET", f"/scim/v2/{sent}", skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {proxied.token}")
            connection.endheaders()
            assert connection.getresponse().status == 200
        assert proxied.upstream.last.target == f"{BASE_PATH}/{sent}"

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            (b'/scim/v2/a"<>{}|^`[]\\b?"<>{}|^`[]\\=\x27', 200),
            (b"/scim/v2//evil.example/x", 200),
            (b"http://evil.example/scim/v2/Users", 200),
            (b"/%73cim/v2/Users", 400),
            (b"/scim/v2/Users?\xff", 400),
            (b"/scim/v2/\xff", 400),
        ],
    )
    def test_odd_addresses_reach_the_upstream_unchanged_or_not_at_all(
        self, proxied: Proxied, target: bytes, status: int
    ) -> None:
        address = urlsplit(proxied.service.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            client.sendall(
                b"GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                b"%s\r\nConnection: close\r\n\r\n" % (target, proxied.token.encode())
            )
            answer = b"".join(iter(lambda: client.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 %d" % status)
        if status == 200:
            rest = target.removeprefix(b"http://evil.example").removeprefix(b"/scim/v2").decode()
            assert proxied.upstream.last.target == BASE_PATH + rest
        else:
            assert proxied.upstream.requests == []

    def test_no_query_is_logged(self, proxied: Proxied) -> None:
        proxied.request("GET", "Users?filter=hunter2")
        with suppress(httpx.RemoteProtocolError):
            proxied.request("GET", "die?filter=hunter2")
        assert "hunter2" not in proxied.service.log.read_text()

    def test_the_root_is_the_upstreams_root(self, proxied: Proxied) -> None:
        assert proxied.service.client.get(
            "/scim/v2", headers={"Authorization": f"Bearer {proxied.token}"}
        ).is_success
        assert proxied.upstream.last.target == BASE_PATH

    def test_headers_from_end_to_end_arrive_and_hop_by_hop_ones_do_not(
        self, proxied: Proxied
    ) -> None:
        hop_by_hop = {
            "Connection": "keep-alive, X-Named, close",
            "X-Named": "1",
            "Keep-Alive": "timeout=1",
            "Proxy-Authorization": "Basic x",
            "Proxy-Connection": "keep-alive",
            "TE": "trailers",
            "Trailer": "x-later",
            "Upgrade": "h2c",
            "Expect": "100-continue",
        }
        proxied.request(
            "POST",
            "Users",
            content=b"{}",
            headers={**hop_by_hop, "If-Match": 'W/"1"', "Via": "1.0 fred"},
        )
        seen = proxied.upstream.last
        assert seen.values("if-match") == ['W/"1"']
        assert seen.values("via") == ["1.0 fred, 1.1 scim-ledger"]
        assert not seen.names & {name.lower() for name in hop_by_hop if name != "Connection"}
        assert seen.values("connection") in ([], ["keep-alive"])
        assert seen.values("host") == [urlsplit(proxied.upstream.url).netloc]

    def test_nothing_is_added_that_the_client_did_not_say(self, proxied: Proxied) -> None:
        with closing(proxied.connect()) as connection:
            connection.putrequest("GET", "/scim/v2/Users", skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {proxied.token}")
            connection.endheaders()
            assert connection.getresponse().status == 200
        ours = {f"x-forwarded-{name}" for name in ("for", "host", "proto", "prefix")}
        assert proxied.upstream.last.names == ours | IDENTITY | {"host", "via", "x-request-id"}

    def test_the_token_stays_here(self, proxied: Proxied) -> None:
        proxied.request("GET", "Users")
        assert "authorization" not in proxied.upstream.last.names

    def test_a_client_cannot_write_what_only_we_say(self, proxied: Proxied) -> None:
        names = (
            "X-Scim-Team-Id X_Scim_Team_Id x-scim_use-id X-SCIM-ANYTHING X-Forwarded-For "
            "X_Forwarded_For "
            "X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Prefix Forwarded X-Real-IP X_Real_IP "
            "X-Request-Id X_Request_Id"
        )
        forged = dict.fromkeys(names.split(), "forged")
        answer = proxied.request("GET", "Users", headers=forged)
        seen = proxied.upstream.last
        assert all("forged" not in value for _, value in seen.headers)
        assert not any("_" in name for name in seen.names)
        assert seen.values("x-forwarded-for") == ["127.0.0.1"]
        assert seen.values("x-forwarded-host") == [urlsplit(proxied.service.url).netloc]
        assert seen.values("x-forwarded-proto") == ["http"]
        assert seen.values("x-request-id") == [answer.headers["x-request-id"]]

    def test_a_trusted_proxy_in_front_is_believed(self, proxied: Proxied) -> None:
        transport = httpx.HTTPTransport(local_address="127.0.0.9")
        with httpx.Client(base_url=proxied.service.url, transport=transport) as client:
            answer = client.get(
                "/scim/v2/Users",
                headers={
                    "Authorization": f"Bearer {proxied.token}",
                    "X-Forwarded-For": "10.1.1.1, 203.0.113.7",
                    "X-Forwarded-Host": "scim.example.com",
                    "X-Forwarded-Proto": "https",
                },
            )
        assert answer.is_success
        seen = proxied.upstream.last
        assert seen.values("x-forwarded-for") == ["203.0.113.7"]
        assert seen.values("x-forwarded-host") == ["scim.example.com"]
        assert seen.values("x-forwarded-proto") == ["https"]
        (use_id,) = seen.values("x-scim-use-id")
        ((source,),) = proxied.service.query(
            "SELECT convert_from(state, 'UTF8')::json->'presentation'->>'source' "
            "FROM ledger.events "
            "WHERE command_id = %s",
            UUID(use_id),
        )
        assert source == "203.0.113.7"

    def test_of_the_answer_hop_by_hop_headers_stay_behind(self, proxied: Proxied) -> None:
        answer = proxied.request("GET", "hops")
        assert answer.headers["x-end"] == "to-end"
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert not answer.headers.keys() & {
            *("x-hop", "keep-alive", "proxy-authenticate", "trailer", "upgrade", "connection"),
        }
        for name in ("date", "x-request-id", "content-length", "content-type"):
            assert len(answer.headers.get_list(name)) == 1

    @pytest.mark.parametrize(
        ("path", "status", "location"),
        [
            ("moved", 302, "/scim/v2/Users/1?a=b"),
            ("moved-here", 201, "/scim/v2/Users/2"),
        ],
    )
    def test_a_location_of_the_upstreams_own_becomes_ours(
        self, proxied: Proxied, path: str, status: int, location: str
    ) -> None:
        answer = proxied.request("GET", path)
        public = proxied.service.url
        assert (answer.status_code, answer.headers["location"]) == (status, public + location)
        assert len(proxied.upstream.requests) == 1

    def test_any_other_location_is_left_alone_and_not_followed(self, proxied: Proxied) -> None:
        answer = proxied.request("GET", "moved-away")
        assert answer.headers["location"] == f"{proxied.upstream.url}-elsewhere/Users"
        assert len(proxied.upstream.requests) == 1


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
        assert_scim_error(proxied.request("GET", "hang"), 504)
        assert proxied.upstream.was_left.wait(10)

    def test_nor_after_a_body(self, proxied: Proxied) -> None:
        assert_scim_error(proxied.request("POST", "hang", content=b"{}"), 504)
        assert proxied.upstream.was_left.wait(10)

    @pytest.mark.parametrize("path", ["stall", "die", "die-chunked"])
    def test_an_answer_that_stops_short_does_not_look_whole(
        self, proxied: Proxied, path: str
    ) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            proxied.request("GET", path)
        assert proxied.request("GET", "Users").is_success

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
            assert_scim_error(proxied.request("GET", "Users"), 502)
            assert_scim_error(proxied.request("POST", "Users", content=b"{}"), 502)
        assert proxied.request("POST", "Users", content=b"{}").is_success
        assert proxied.uses() == before + 3, "the token was good each time"
