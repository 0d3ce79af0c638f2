"""A token of its own is good for `/metrics`, without the database, too, and for nothing else."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from litestar.testing import TestClient

from api.app import build
from api.cli.installation.contradictions import contradictions
from api.edge import Edge
from api.resources.metrics_token import NAME, metrics_tokens
from api.settings import Settings, SettingsError
from domain.secret import SecretKind, mint
from tests.api.telemetry.samples import Scrape
from tests.conftest import Database
from tests.docs.documents import blocks
from tests.service import PEPPER_KEY

AWAY: Final = "postgresql://127.0.0.1:1/none"
OLDER, NEWER = "older-token-" * 3, "newer-token-" * 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "metrics-token"
    path.write_text(f"{OLDER}\n{NEWER}\n")
    return path


@pytest.fixture(scope="module")
def without_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Edge]]:
    file = tmp_path_factory.mktemp("metrics") / "token"
    file.write_text(f"{OLDER}\n{NEWER}\n")
    settings = Settings(database_url=AWAY, pepper=PEPPER_KEY, metrics_token_file=file)
    with TestClient(build(settings)) as client:
        yield client


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


@pytest.mark.parametrize("token", [OLDER, NEWER])
def test_the_metrics_tell_that_the_database_is_away(
    without_database: TestClient[Edge], token: str
) -> None:
    found = Scrape(without_database.get("/metrics", headers=bearer(token)))
    assert found.value("scim_ledger_problem", cause="database") == 1
    assert found.value("scim_ledger_readiness", status="unavailable") == 1
    assert without_database.head("/metrics", headers=bearer(token, "bearer")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(OLDER[:-1]), 401),
        (bearer(f"{OLDER}{NEWER}"), 401),
        (bearer(f"{OLDER} {NEWER}"), 401),
        (bearer(OLDER, "Basic"), 401),
        ({"Authorization": OLDER}, 401),
        (bearer(f"{OLDER}, Bearer {NEWER}"), 401),
        (bearer(mint(SecretKind.API_LIVE, bytes(32)).reveal()), 503),
    ],
)
def test_nothing_else_comes_in(
    without_database: TestClient[Edge], headers: dict[str, str], status: int
) -> None:
    assert without_database.get("/metrics", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics/"),
        ("GET", "/projections"),
        ("GET", "/whoami"),
        ("GET", f"/scim-token/{UUID(int=1)}"),
        ("POST", "/scim-token"),
        ("GET", "/scim/v2/Users"),
        ("GET", "/gateway/forward"),
    ],
)
def test_it_opens_nothing_else(without_database: TestClient[Edge], method: str, path: str) -> None:
    answer = without_database.request(method, path, headers=bearer(OLDER))
    assert answer.status_code == 401
    assert OLDER not in answer.text


def test_without_the_setting_no_token_is_good_and_with_it_all_is_told(
    database: Database, file: Path
) -> None:
    settings = Settings(database_url=database.app, pepper=PEPPER_KEY)
    with TestClient(build(settings)) as client:
        assert client.get("/metrics", headers=bearer(OLDER)).status_code == 401
    settings = Settings(database_url=database.app, pepper=PEPPER_KEY, metrics_token_file=file)
    with TestClient(build(settings)) as client:
        found = Scrape(client.get("/metrics", headers=bearer(OLDER)))
        assert found.value("scim_ledger_tokens", state="active") == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        (b"\xff" * 40, "cannot be read"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"k" * 31, "holds a token that is too short"),
        (f"{OLDER} short".encode(), "holds a token that is too short"),
        (b"k" * 32 + b"\x00", "holds a token that is too short"),
        (
            mint(SecretKind.API_LIVE, bytes(32)).reveal().encode(),
            "holds a token of a ledger, which ends by its revocation only",
        ),
    ],
)
def test_a_file_that_is_no_good_is_refused_in_words(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        metrics_tokens(path)
    assert str(caught.value).startswith("SCIM_LEDGER_METRICS_TOKEN_FILE: ")
    assert f"{path} {told}" in str(caught.value)
    settings = Settings(metrics_token_file=path, data_dir=tmp_path)
    assert list(contradictions(settings, {}, {})) == [str(caught.value)]


def test_beside_public_metrics_it_has_no_use(file: Path, tmp_path: Path) -> None:
    settings = Settings(metrics_token_file=file, public_metrics=True, data_dir=tmp_path)
    assert list(contradictions(settings, {}, {})) == [
        f"{NAME} has no use with SCIM_LEDGER_PUBLIC_METRICS: remove one of them"
    ]


def test_the_how_to_makes_one(tmp_path: Path) -> None:
    (script,) = blocks("token", document="docs/how-to/monitor.md")
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=30)
    path = tmp_path / "metrics-token"
    assert path.stat().st_mode & 0o777 == 0o600
    metrics_tokens(path)
