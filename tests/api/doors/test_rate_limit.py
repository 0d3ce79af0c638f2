"""Rate limits: the buckets by themselves, and what a client is told at the doors."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
import uvloop

from api.doors.rate_limit import Buckets, RateLimits
from api.doors.scim_messages import ERROR
from api.errors import TooManyRequests
from domain.secret import ENTROPY_BYTES, Secret, SecretKind, mint
from tests.api.expected import assert_problem
from tests.conftest import new_database
from tests.service import RunningService, running_service


class HandClock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def secret(number: int = 0) -> Secret:
    return mint(SecretKind.SCIM_LIVE, number.to_bytes(ENTROPY_BYTES, "big"))


def taken(buckets: Buckets, key: str, *, at_most: int = 1000) -> int:
    """How many requests a bucket gives in a row."""
    for count in range(at_most):
        try:
            buckets.take(key)
        except TooManyRequests:
            return count
    return at_most


class TestBuckets:
    @pytest.mark.parametrize("rate", [1, 2.5, 10, 200, 333])
    def test_a_full_one_holds_two_seconds_worth(self, rate: float) -> None:
        assert taken(Buckets(rate, clock=HandClock()), "a") == 2 * rate

    @pytest.mark.parametrize("rate", [1, 10, 200])
    def test_over_time_it_gives_its_rate_and_no_more(self, rate: int) -> None:
        clock = HandClock()
        buckets = Buckets(rate, clock=clock)
        taken(buckets, "a")
        given = 0
        for _ in range(1000):
            clock.now += 0.01
            given += taken(buckets, "a")
        assert rate * 10 - 1 <= given <= rate * 10

    def test_a_refusal_takes_nothing_so_that_asking_too_often_does_not_last(self) -> None:
        clock = HandClock()
        buckets = Buckets(10, clock=clock)
        taken(buckets, "a")
        for _ in range(1000):
            with pytest.raises(TooManyRequests):
                buckets.take("a")
        clock.now += 0.11
        buckets.take("a")

    def test_after_the_wait_that_it_names_there_is_one_more(self) -> None:
        for rate in (1, 1.5, 3, 200):
            clock = HandClock()
            buckets = Buckets(rate, clock=clock)
            buckets.take("a")
            taken(buckets, "a")
            with pytest.raises(TooManyRequests) as caught:
                buckets.take("a")
            assert isinstance(caught.value.retry_after_s, int)
            assert caught.value.retry_after_s == 1
            clock.now += caught.value.retry_after_s
            buckets.take("a")

    def test_each_key_has_its_own(self) -> None:
        buckets = Buckets(1, clock=HandClock())
        assert taken(buckets, "a") == taken(buckets, "b") == 2

    def test_a_rate_of_zero_is_no_limit_and_keeps_nothing(self) -> None:
        buckets = Buckets(0)
        assert taken(buckets, "a") == 1000
        assert len(buckets) == 0

    def test_memory_is_bounded_and_those_who_ask_are_not_forgotten(self) -> None:
        buckets = Buckets(1, max_keys=10, clock=HandClock())
        taken(buckets, "busy")
        for number in range(100):
            buckets.take(number)
            with pytest.raises(TooManyRequests):
                buckets.take("busy")
        assert len(buckets) == 10


class TestKeys:
    def test_one_secret_does_not_spend_what_is_anothers(self) -> None:
        limits = RateLimits(per_token=1)
        for number in range(2):
            limits.take_token(secret(number))
            limits.take_token(secret(number))
            with pytest.raises(TooManyRequests):
                limits.take_token(secret(number))

    def test_no_secret_is_kept(self) -> None:
        limits = RateLimits(per_token=1)
        limits.take_token(secret())
        assert all(isinstance(key, int) for key in limits._tokens._full_at)

    def test_an_ipv6_network_of_one_site_is_one_source(self) -> None:
        limits = RateLimits(per_source=1)
        for address in ("2001:db8::1", "2001:db8::ffff"):
            limits.take_source(address)
        with pytest.raises(TooManyRequests):
            limits.take_source("2001:db8::2")
        limits.take_source("2001:db8:0:1::2")

    @pytest.mark.parametrize(
        ("one", "same", "other"),
        [
            ("2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff", "2001:db8:0:1::"),
            ("2001:db8:0:ff00::1", "2001:DB8:0:FF00:0:0:0:2", "2001:db8:0:ff01::1"),
            ("fe80::1%eth0", "fe80::ffff%eth1", "fe80:0:0:1::1%eth0"),
            ("::1", "::2%lo", "0:0:0:1::1"),
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ],
    )
    def test_a_source_is_its_64_bits_and_an_ipv4_address_is_one_of_its_own(
        self, one: str, same: str, other: str
    ) -> None:
        limits = RateLimits(per_source=1)
        limits.take_source(one)
        limits.take_source(same)
        with pytest.raises(TooManyRequests):
            limits.take_source(one)
        limits.take_source(other)

    def test_an_unknown_source_is_not_limited(self) -> None:
        limits = RateLimits(per_source=1)
        for _ in range(10):
            limits.take_source(None)


@pytest.fixture(scope="module")
def limited(server: str) -> Iterator[RunningService]:
    settings = {"SCIM_LEDGER_RATE_PER_TOKEN": "2", "SCIM_LEDGER_RATE_PER_SOURCE": "30"}
    with (
        new_database(server) as database,
        running_service(database, environment=settings) as service,
    ):
        yield service


def test_a_token_used_too_often_is_told_so_in_scims_words_and_the_ledger_is_left_alone(
    limited: RunningService,
) -> None:
    caller = limited.api_token()
    made = limited.client.post(
        "/scim-token", auth=caller, json={"team_id": str(uuid4()), "name": "x"}
    ).json()
    headers = {"Authorization": f"Bearer {made['token']}"}

    async def burst() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=limited.url, headers=headers) as client:
            paths = [
                "/scim/v2/Schemas",
                "/gateway/nginx",
                "/gateway/forward",
                "/gateway/envoy/x",
            ] * 5
            return await asyncio.gather(*(client.get(path) for path in paths))

    answers = uvloop.run(burst())
    good = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(good) + len(refused) == 20
    assert 4 <= len(good) <= 10
    for answer in refused:
        assert answer.json() == {
            "schemas": [ERROR],
            "status": "429",
            "detail": "There are too many requests. Wait, then try again.",
        }
        assert answer.headers["content-type"] == "application/scim+json"
        assert answer.headers["retry-after"] == "1"
        assert "www-authenticate" not in answer.headers
    ((uses,),) = limited.query(
        "SELECT uses FROM ledger.stream_heads WHERE originator_id = %s", made["id"]
    )
    assert uses == len(good), "what was refused never reached the gate"

    verified = [
        limited.client.post("/verify", auth=caller, json={"token": made["token"]}) for _ in range(8)
    ]
    throttled = next(answer for answer in verified if answer.status_code == 429)
    assert_problem(
        throttled, 429, "too-many-requests", "There are too many requests. Wait, then try again."
    )
    assert throttled.headers["retry-after"] == "1"
    assert limited.client.get("/scim-token", auth=caller).status_code == 200, (
        "the API is not limited"
    )


def test_a_source_without_any_token_is_limited_too_but_not_a_gateway_that_asks_for_others(
    limited: RunningService,
) -> None:
    at_scim = [limited.client.get("/scim/v2/Users").status_code for _ in range(200)]
    assert at_scim[0] == 401
    assert 429 in at_scim
    at_gateway = [limited.client.get("/gateway/nginx").status_code for _ in range(200)]
    assert set(at_gateway) == {401}


@pytest.fixture
def narrow(server: str) -> Iterator[RunningService]:
    settings = {"SCIM_LEDGER_RATE_PER_TOKEN": "1", "SCIM_LEDGER_RATE_PER_SOURCE": "5"}
    with (
        new_database(server) as database,
        running_service(database, environment=settings) as service,
    ):
        yield service


def burst(service: RunningService, *forms: dict[str, str]) -> list[httpx.Response]:
    """Forms that are sent to `/revoke` at once."""

    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, verify=False) as client:
            return await asyncio.gather(*(client.post("/revoke", data=form) for form in forms))

    return uvloop.run(send())


@pytest.mark.long
def test_e7_whoever_burns_tokens_is_limited_by_source_whatever_they_send(
    narrow: RunningService,
) -> None:
    unknown = [
        {"token": secret(number).reveal()} for number in range(40)
    ]  # each of a bucket of its own
    answers = burst(narrow, *unknown)
    assert {answer.status_code for answer in answers} == {200, 429}
    throttled = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(
        throttled, 429, "too-many-requests", "There are too many requests. Wait, then try again."
    )
    assert throttled.headers["retry-after"] == "1"
    assert [answer.status_code for answer in answers].count(200) <= 15, (
        "two seconds' worth, and a little time"
    )
    nonsense = burst(narrow, *[{"token": "nonsense"}, {}, {"token": "x", "other": "y"}] * 15)
    assert 429 in {answer.status_code for answer in nonsense}


def test_e7_one_token_is_not_tried_again_and_again(limited: RunningService) -> None:
    answers = burst(limited, *[{"token": secret(7).reveal()}] * 12)
    assert {answer.status_code for answer in answers} == {200, 429}
    assert [answer.status_code for answer in answers].count(200) <= 6
