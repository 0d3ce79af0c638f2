"""`/scim/v2` in front of a real SCIM service: who gets through, and what passes."""

import socket
from contextlib import closing, suppress
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from tests.api.doors.scim.proxied import Proxied, assert_scim_error
from tests.api.doors.scim.upstream import BASE_PATH

IDENTITY: Final = {"x-scim-team-id", "x-scim-token-id", "x-scim-use-id"}


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

    @pytest.mark.parametrize("between", "-_.!~'*+|^`$&%#")
    def test_a_client_cannot_write_what_only_we_say(self, proxied: Proxied, between: str) -> None:
        names = (
            "X-Scim-Team-Id x-scim-use-id X-SCIM-ANYTHING X-Forwarded-For X-Forwarded-Host "
            "X-Forwarded-Proto X-Forwarded-Prefix X-Forwarded-Anything Forwarded X-Real-IP "
            "X-Request-Id X-Original-URL X-Original-URI X-Original-Host X-Rewrite-URL Proxy"
        )
        forged = dict.fromkeys(names.replace("-", between).split(), "forged")
        answer = proxied.request("GET", "Users", headers=forged)
        seen = proxied.upstream.last
        assert all("forged" not in value for _, value in seen.headers)
        assert all(name.replace("-", "").isalnum() for name in seen.names)
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
