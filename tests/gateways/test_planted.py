"""Bugs planted in the recipes, one line each: the table must notice every one of them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.gateways import cases
from tests.gateways.cases import LedgerCase, ScriptedCase
from tests.gateways.fronts import Front, Ledger, front_of
from tests.gateways.programs import DEPLOY
from tests.gateways.test_gateways import DOORS, start

pytestmark = pytest.mark.gateway

NGINX: Final = "nginx/scim.conf.template"
CADDY: Final = "caddy/Caddyfile"
TRAEFIK: Final = "traefik/scim.yml"
HAPROXY: Final = "haproxy/haproxy.cfg"
LUA: Final = "haproxy/scim_auth.lua"
ENVOY: Final = "envoy/envoy.yaml.template"


class Plant(NamedTuple):
    """In a file of a recipe, the first `good` becomes `bad`."""

    file: str
    good: str
    bad: str


BEFORE_THE_LEDGER: Final[dict[LedgerCase, list[Plant]]] = {
    cases.what_the_client_calls_itself_never_arrives: [
        Plant(NGINX, "proxy_pass_request_headers off;", ""),
        Plant(CADDY, "request_header -*scim*", ""),
        Plant(
            TRAEFIK,
            "authResponseHeadersRegex: '(?i)scim'",
            "authResponseHeaders: [X-Scim-Team-Id]",
        ),
        Plant(CADDY, "request_header -*scim*", "request_header -X-Scim*"),
        Plant(HAPROXY, "del-header scim -m sub", "del-header ^x[-_]scim -m reg"),
        Plant(ENVOY, "contains: scim", "prefix: x-scim"),
    ],
    cases.what_the_client_names_in_connection_arrives_all_the_same: [
        Plant(CADDY, "request_header -Connection", ""),
        Plant(HAPROXY, "http-request del-header connection", ""),
    ],
    cases.no_tunnel_gets_past_the_ledger: [
        Plant(CADDY, "request_header -Connection", ""),
        Plant(TRAEFIK, "without-a-tunnel, ", ""),
        Plant(HAPROXY, "http-request deny deny_status 405 if METH_CONNECT", ""),
        Plant(HAPROXY, "http-request del-header upgrade", ""),
        Plant(
            NGINX,
            'proxy_set_header Connection "";',
            'proxy_set_header Connection "Upgrade"; proxy_set_header Upgrade $http_upgrade;',
        ),
    ],
    cases.a_good_get_reaches_the_backend_with_its_identity: [
        Plant(NGINX, "proxy_set_header X-Scim-Use-Id     $scim_use_id;", ""),
        Plant(CADDY, "request_header -Authorization", ""),
        Plant(TRAEFIK, "ask-the-ledger, without-the-token]", "ask-the-ledger]"),
        Plant(LUA, 'txn.http:req_del_header("authorization")', ""),
        Plant(ENVOY, "request_headers_to_remove: [authorization]", ""),
    ],
    cases.the_trail_holds_the_real_method_and_path: [
        Plant(
            NGINX, "X-Original-Method $request_method", "X-Original-Method $http_x_original_method"
        ),
        Plant(
            LUA,
            '["x-forwarded-method"] = { txn.sf:method() }',
            '["x-forwarded-method"] = { "DELETE" }',
        ),
    ],
    cases.the_trail_holds_where_a_request_came_from: [
        Plant(NGINX, "X-Forwarded-For   $remote_addr", "X-Forwarded-For $http_x_forwarded_for"),
        Plant(ENVOY, "use_remote_address: true", "use_remote_address: false"),
    ],
    cases.a_ledger_that_hangs_lets_nobody_in: [
        Plant(CADDY, "response_header_timeout 2s", "response_header_timeout 5s"),
        Plant(TRAEFIK, "responseHeaderTimeout: 2s", "responseHeaderTimeout: 5s"),
        Plant(LUA, "TIMEOUT_MS = 500", "TIMEOUT_MS = 1250"),
    ],
}

BEFORE_RARE_ANSWERS: Final[dict[ScriptedCase, list[Plant]]] = {
    cases.a_403_keeps_its_challenge: [
        Plant(NGINX, "add_header WWW-Authenticate $scim_challenge always;", "")
    ],
    cases.a_429_keeps_its_retry_after: [
        Plant(NGINX, "error_page 500 = @scim_5xx;", ""),
        Plant(LUA, '"retry-after", "cache-control"', '"cache-control"'),
        Plant(ENVOY, "- exact: retry-after", "- exact: x-other"),
    ],
    cases.a_503_comes_with_a_retry_after: [
        Plant(ENVOY, "failure_mode_allow: false", "failure_mode_allow: true")
    ],
    cases.an_answer_that_names_nobody_lets_no_spoofed_name_in: [
        Plant(ENVOY, "key_matcher: { contains: scim,", "key_matcher: { prefix: x-none,")
    ],
}


@pytest.mark.parametrize(
    ("case", "plant"),
    [
        pytest.param(case, plant, id=f"{plant.file}: {plant.good}")
        for case, plants in BEFORE_THE_LEDGER.items()
        for plant in plants
    ],
)
def test_the_table_notices(case: LedgerCase, plant: Plant, ledger: Ledger, tmp_path: Path) -> None:
    with _planted(plant, tmp_path, ledger.service.url) as front, pytest.raises(AssertionError):
        case(front, ledger)


@pytest.mark.parametrize(
    ("case", "plant"),
    [
        pytest.param(case, plant, id=f"{plant.file}: {plant.good}")
        for case, plants in BEFORE_RARE_ANSWERS.items()
        for plant in plants
    ],
)
def test_the_table_notices_rare_answers(
    case: ScriptedCase, plant: Plant, scripted: str, tmp_path: Path
) -> None:
    with _planted(plant, tmp_path, scripted) as front, pytest.raises(AssertionError):
        case(front)


@contextmanager
def _planted(plant: Plant, directory: Path, ledger_url: str) -> Iterator[Front]:
    recipes = directory / "deploy"
    shutil.copytree(DEPLOY, recipes)
    file = recipes / plant.file
    text = file.read_text()
    assert plant.good in text
    # The last one: in nginx's recipe the question to the ledger comes after what goes to the
    # backend.
    head, tail = (
        text.rsplit(plant.good, 1) if "X-Forwarded-For" in plant.good else text.split(plant.good, 1)
    )
    file.write_text(f"{head}{plant.bad}{tail}")
    name = plant.file.partition("/")[0]
    starting = partial(start, name, recipes=recipes)
    is_detail_kept = name != "nginx"
    with front_of(
        starting,
        ledger_url,
        name=name,
        door=DOORS.get(name, "forward"),
        is_detail_kept=is_detail_kept,
    ) as front:
        yield front
