"""A9: a secret that is pasted where a text belongs is in no table,
whichever door it came through.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Final, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from domain.secret import SecretKind, mint
from tests.api.expected import assert_invalid, create, topics
from tests.api.promises.test_canary import database_texts
from tests.domain.test_kept_text import WAYS, pieces_left, pieces_of
from tests.service import Caller, RunningService
from tests.turns import by_turns

SEED: Final = 20261128
PER_DOOR: Final = 12


class Scene(NamedTuple):
    """A service, and the good token whose holder mistakes every field."""

    service: RunningService
    caller: Caller
    token: dict[str, Any]
    sent: list[str]


@pytest.fixture(scope="module")
def scene(behind: RunningService) -> Scene:
    caller = behind.api_token()
    return Scene(behind, caller, create(behind, caller), [])


def wrongly_pasted(dice: random.Random, sent: list[str]) -> str:
    """A text with a secret somewhere in it, in a way that people paste one."""
    secret = mint(dice.choice(list(SecretKind)), dice.randbytes(32)).reveal()
    sent.append(secret)
    before = "".join(dice.choices("Okta/1.0 (x;y=é)", k=dice.randrange(230)))
    pasted = dice.choice(list(WAYS.values()))(secret)
    return before + pasted + dice.choice(["", " x", ")", ", 127.0.0.1"])


def in_a_header(text: str) -> bytes:
    """What of a text a client of HTTP can send in a header."""
    return text.replace("\x00", "").strip().encode()


def in_headers(path: str, *names: str) -> Callable[[Scene, Callable[[], str]], None]:
    """A request with a secret in its user agent, its path and more headers."""

    def ask(scene: Scene, text: Callable[[], str]) -> None:
        headers = [(b"authorization", f"Bearer {scene.token['token']}".encode())]
        for name in ("User-Agent", "X-Forwarded-For", "X-Request-Id", *names):
            value = in_a_header(text())
            headers.append((name.encode(), b"::1%" + value if name == "X-Forwarded-For" else value))
        scene.service.client.get(path, headers=headers)

    return ask


def in_a_path(scene: Scene, text: Callable[[], str]) -> None:
    scene.service.client.get(
        f"/scim/v2/Users/{text().replace(chr(0), '')[:180]}",
        headers={"Authorization": f"Bearer {scene.token['token']}"},
    )


def in_verify(scene: Scene, text: Callable[[], str]) -> None:
    body = {"token": scene.token["token"], "method": text(), "path": text(), "user_agent": text()}
    answer = scene.service.client.post(
        "/verify", auth=scene.caller, json=body | {"source": f"::1%{text()}"}
    )
    assert answer.status_code in {200, 400}, answer.text


def in_a_command(scene: Scene, text: Callable[[], str]) -> None:
    headers = [(b"idempotency-key", in_a_header(text())), (b"user-agent", in_a_header(text()))]
    body = {"team_id": str(uuid4()), "name": text()}
    made = scene.service.client.post("/scim-token", auth=scene.caller, json=body, headers=headers)
    assert made.status_code == 400, "either the name or the key is refused"
    scene.service.client.get("/scim-token", auth=scene.caller, params={"name": text()})
    scene.service.client.get("/audit", auth=scene.caller, params={"source": f"::1%{text()}"})


def in_a_form(scene: Scene, text: Callable[[], str]) -> None:
    form = {"token": text(), "token_type_hint": text()}
    headers = [(b"user-agent", in_a_header(text()))]
    scene.service.client.post("/revoke", data=form, headers=headers)
    scene.service.client.post("/introspect", data=form, headers=headers, auth=scene.caller)


DOORS: Final[Mapping[str, Callable[[Scene, Callable[[], str]], None]]] = {
    "scim": in_headers("/scim/v2/Users"),
    "nginx": in_headers("/gateway/nginx", "X-Original-URI", "X-Original-Method", "X-Forwarded-Uri"),
    "forward": in_headers(
        "/gateway/forward", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Original-URI"
    ),
    "envoy": in_headers("/gateway/envoy/x", "X-Original-URI"),
    "a path": in_a_path,
    "verify": in_verify,
    "a command": in_a_command,
    "a form": in_a_form,
}


@pytest.mark.parametrize("door", DOORS)
def test_no_table_holds_a_piece_of_a_secret_that_was_pasted_into_a_text(
    scene: Scene, door: str
) -> None:
    dice = random.Random(f"{SEED} {door}")
    before = len(topics(scene.service, scene.token["id"]))
    sent_before = len(scene.sent)
    for _ in range(PER_DOOR):
        DOORS[door](scene, lambda: wrongly_pasted(dice, scene.sent))
    assert len(scene.sent) >= PER_DOOR
    if door in {"scim", "nginx", "forward", "envoy", "verify"}:
        assert len(topics(scene.service, scene.token["id"])) > before, (
            "what was sent got as far as the ledger"
        )
    assert found(scene, scene.sent[sent_before:]) == []


def test_no_door_left_anything_that_came_later(scene: Scene) -> None:
    assert found(scene, scene.sent) == []


@pytest.mark.long
def test_planted_a_piece_of_one_in_an_event_would_be_found(scene: Scene) -> None:
    secret = mint(SecretKind.SCIM_LIVE, bytes(range(32))).reveal()
    scene.sent.append(secret)
    with psycopg.connect(scene.service.database.owner, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE views.planted AS SELECT %b::bytea AS state", [secret[12:34].encode()]
        )
        try:
            assert {place for place, _ in found(scene, scene.sent)} == {"views.planted"}
        finally:
            connection.execute("DROP TABLE views.planted")
            scene.sent.remove(secret)


@pytest.mark.parametrize(
    "way", ["as it is", "its prefix in capitals", "percent-encoded", "twice", "cut short"]
)
def test_a_name_with_a_secret_in_it_is_refused_and_not_repeated(scene: Scene, way: str) -> None:
    for kind in SecretKind:
        secret = mint(kind, bytes(range(32))).reveal()
        name = f"Okta {WAYS[way](secret)}"[:255]
        body = {"team_id": str(uuid4()), "name": name}
        answer = scene.service.client.post("/scim-token", auth=scene.caller, json=body)
        assert_invalid(answer, "/name", "must not hold a secret")
        assert pieces_left(answer.text, secret) == []


@pytest.mark.parametrize(
    "way", ["as it is", "its prefix in capitals", "percent-encoded", "twice", "cut short"]
)
def test_a_reason_with_a_secret_in_it_is_refused_and_ends_nothing(scene: Scene, way: str) -> None:
    secret = mint(SecretKind.SCIM_LIVE, bytes(range(32))).reveal()
    made = create(scene.service, scene.caller)
    params = {"reason": f"leaked: {WAYS[way](secret)}"[:200]}
    answer = scene.service.client.delete(
        f"/scim-token/{made['id']}", auth=scene.caller, params=params
    )
    assert answer.status_code == 400
    assert "must not hold a secret" in answer.text
    assert pieces_left(answer.text, secret) == []
    assert topics(scene.service, made["id"]) == ["scim_token.created.v1"]


def found(scene: Scene, sent: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Where a piece of one of these secrets is."""
    service = scene.service
    places = database_texts(service.database) | {
        "log": service.log.read_text() + service.output.read_text()
    }
    pieces = {place: pieces_of(text) for place, text in places.items()}
    return [
        (place, piece)
        for place, known in pieces.items()
        for secret in sent
        for piece in pieces_left(known, secret)
    ]


@pytest.mark.parametrize(
    ("way", "path"),
    by_turns(
        product(
            ["as it is", "its prefix in capitals", "twice", "cut short"],
            ["/audit", "/scim-token", "/events", "/projections"],
        ),
        one_of=5,
    ),
)
def test_the_name_of_a_parameter_that_is_a_secret_is_not_repeated(
    scene: Scene, path: str, way: str
) -> None:
    secret = mint(SecretKind.API_LIVE, bytes(range(32))).reveal()
    answer = scene.service.client.get(path, auth=scene.caller, params={WAYS[way](secret): "1"})
    assert answer.status_code < 500
    assert pieces_left(answer.text, secret) == []
