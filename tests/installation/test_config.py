"""`scim-ledger config check` tells each setting, where it is from, and what is wrong; no secret."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from api.cli.installation.config import HIDDEN, UNUSABLE
from api.settings.settings import RESTORE_PEPPER
from tests.api.cli import forked_cli
from tests.api.cli.forked_cli import Done
from tests.turns import by_turns

SECRET: Final = "hunter2hunter2hunter2hunter2hunter2"
URL: Final = f"postgresql://app:{SECRET}@db.example:5433/ledger?sslmode=require"
OWNER_URL: Final = URL.replace("app:", "owner:")


def check(*flags: str, home: str = "/nonexistent", **variables: str) -> Done:
    done = forked_cli.run(("config", "check", *flags), {"HOME": home, **variables})
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def told(*flags: str, is_good: bool = True, **variables: str) -> tuple[dict[str, Any], list[str]]:
    """Value, kind of source and name of each setting, and the problems."""
    done = check(*flags, "--json", **variables)
    assert (done.exit_code, done.stderr) == (0 if is_good else 1, "")
    found = json.loads(done.stdout)
    assert is_good == (found["problems"] == [])
    settings = {
        row["setting"].removeprefix("SCIM_LEDGER_"): (row["value"], row["source"], row["given_as"])
        for row in found["settings"]
    }
    return settings, found["problems"]


def test_each_setting_is_told_with_where_it_is_from(tmp_path: Path) -> None:
    pepper = tmp_path / "pepper"
    pepper.write_text(SECRET)
    settings, _ = told(
        *("--port", "9999"),
        DATABASE_URL=URL,
        SCIM_LEDGER_PORT="1",
        SCIM_LEDGER_WORKERS=" 4\n",
        SCIM_LEDGER_PEPPER_FILE=str(pepper),
        SCIM_LEDGER_PUBLIC_METRICS="true",
    )
    assert settings["PORT"] == (9999, "flag", "--port")
    assert settings["WORKERS"] == (4, "environment", "SCIM_LEDGER_WORKERS")
    assert settings["PUBLIC_METRICS"] == (True, "environment", "SCIM_LEDGER_PUBLIC_METRICS")
    assert settings["HOST"] == ("127.0.0.1", "default", None)
    assert settings["PEPPER"] == (HIDDEN, "file", str(pepper))
    value, source, name = settings["DATABASE_URL"]
    assert (source, name) == ("environment", "DATABASE_URL")
    assert {"user=app", "host=db.example", "port=5433", f"password={HIDDEN}"} <= {*value.split()}


def test_the_embedded_ledger_has_its_places_by_default(tmp_path: Path) -> None:
    settings, _ = told("--data-dir", str(tmp_path))
    assert settings["PEPPER"] == (HIDDEN, "file", str(tmp_path / "pepper"))
    assert settings["DATA_DIR"] == (str(tmp_path), "flag", "--data-dir")
    assert told()[0]["DATA_DIR"][1:] == ("default", None)
    assert "WAKE_FD" not in settings


@pytest.mark.parametrize(
    "conninfo",
    [
        URL,
        f"postgresql://app@h/ledger?password={SECRET}",
        f"host=a,b port=1,2 user=app password='{SECRET}' sslpassword={SECRET}",
        f"postgresql://app:{SECRET}",
        f"postgresql://app:{SECRET}@[::1",
    ],
)
def test_no_secret_is_shown_wherever_it_stands(conninfo: str) -> None:
    given = {"SCIM_LEDGER_OWNER_DATABASE_URL": conninfo, "SCIM_LEDGER_PEPPER": SECRET}
    assert check(DATABASE_URL=conninfo, **given).exit_code in {0, 1}
    check("--json", DATABASE_URL=conninfo, **given)
    check(SCIM_LEDGER_SCIM_UPSTREAM_URL=f"https://u:{SECRET}@scim.example")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    settings, problems = told(
        is_good=False,
        SCIM_LEDGER_PROT="1",
        SCIM_LEDGER_WORKERS="many",
        SCIM_LEDGER_RATE_PER_TOKEN="-1",
        SCIM_LEDGER_LOG_LEVEL="loud",
    )
    for name in ("WORKERS", "RATE_PER_TOKEN", "LOG_LEVEL"):
        assert settings[name][0] == UNUSABLE
    assert problems == [
        "unknown setting SCIM_LEDGER_PROT; do you mean SCIM_LEDGER_PORT?",
        "SCIM_LEDGER_WORKERS must be a whole number without a unit",
        "SCIM_LEDGER_LOG_LEVEL must be debug, info, warning or error",
        "SCIM_LEDGER_RATE_PER_TOKEN must be 1 to 1000000, or 0 for no limit",
    ]


UPSTREAM: Final = "SCIM_LEDGER_SCIM_UPSTREAM_URL"


@pytest.mark.parametrize(
    ("variables", "problem"),
    by_turns(
        [
            (
                {"DATABASE_URL": URL},
                "with DATABASE_URL a pepper is needed: set SCIM_LEDGER_PEPPER_FILE",
            ),
            (
                {"SCIM_LEDGER_PEPPER_FILE": "/nonexistent"},
                (
                    "SCIM_LEDGER_PEPPER_FILE: /nonexistent cannot be read "
                    f"(No such file or directory): {RESTORE_PEPPER}"
                ),
            ),
            (
                {"SCIM_LEDGER_OWNER_DATABASE_URL": OWNER_URL},
                (
                    "SCIM_LEDGER_OWNER_DATABASE_URL has no use for the embedded server: "
                    "set DATABASE_URL too, or remove it"
                ),
            ),
            (
                {
                    "DATABASE_URL": URL,
                    "SCIM_LEDGER_OWNER_DATABASE_URL": OWNER_URL.replace("/ledger", "/other"),
                    "SCIM_LEDGER_PEPPER": SECRET,
                },
                (
                    "DATABASE_URL and SCIM_LEDGER_OWNER_DATABASE_URL name two databases: "
                    "let them differ in the role only"
                ),
            ),
            (
                {UPSTREAM: "http://a", "SCIM_UPSTREAM_URL": "http://b"},
                f"SCIM_UPSTREAM_URL differs from {UPSTREAM}, which is used: remove one of them",
            ),
            (
                {"SCIM_LEDGER_FORWARD_AUTHORIZATION": "true"},
                (
                    "SCIM_LEDGER_FORWARD_AUTHORIZATION has no use without an upstream: "
                    f"set {UPSTREAM}, or remove it"
                ),
            ),
            (
                {UPSTREAM: "http://localhost:8080/scim", "SCIM_LEDGER_HOST": "0.0.0.0"},
                f"{UPSTREAM} leads back to this service: name your SCIM service there",
            ),
            (
                {"SCIM_LEDGER_SCIM_BASE_URL": "http://localhost:8080/scim/v2"},
                (
                    "SCIM_LEDGER_SCIM_BASE_URL leads to this service, which has no upstream: "
                    f"name your gateway there, or set {UPSTREAM}"
                ),
            ),
        ],
        one_of=3,
    ),
)
def test_a_contradiction_is_one_sentence_with_a_remedy(
    variables: dict[str, str], problem: str
) -> None:
    _, problems = told(is_good=False, **variables)
    assert problems == [problem]
    done = check(**variables)
    assert (done.exit_code, done.stderr) == (1, f"scim-ledger: {problem}\n")


def test_the_pepper_is_given_once(tmp_path: Path) -> None:
    pepper = tmp_path / "pepper"
    pepper.write_text(SECRET)
    _, problems = told(
        is_good=False, SCIM_LEDGER_PEPPER=SECRET, SCIM_LEDGER_PEPPER_FILE=str(pepper)
    )
    assert problems == ["give SCIM_LEDGER_PEPPER or SCIM_LEDGER_PEPPER_FILE, not both"]


@pytest.mark.parametrize(
    "variables",
    [
        {"SCIM_LEDGER_SCIM_BASE_URL": "https://gateway.example.com/scim/v2"},
        {"SCIM_LEDGER_SCIM_BASE_URL": "http://localhost:8000/scim/v2"},
        {"SCIM_LEDGER_SCIM_BASE_URL": "http://localhost:8080/scim/v2", UPSTREAM: "http://a:1"},
    ],
)
def test_a_base_url_where_a_scim_service_answers_is_no_contradiction(
    variables: dict[str, str],
) -> None:
    settings, problems = told(is_good=True, **variables)
    assert problems == []
    assert settings["SCIM_BASE_URL"] == (
        variables["SCIM_LEDGER_SCIM_BASE_URL"],
        "environment",
        "SCIM_LEDGER_SCIM_BASE_URL",
    )


@pytest.mark.parametrize(
    "owner",
    [
        OWNER_URL,
        OWNER_URL.replace("5433", "6432"),
        OWNER_URL.replace("db.example:5433", "10.0.0.1"),
        OWNER_URL.replace("db.example:5433", "a.example:5433,b.example:5433"),
        OWNER_URL.replace("db.example", "pooler.example").replace("/ledger", "/alias"),
        "service=owner",
        "host=db.example port=5433 user=ledger",
    ],
)
def test_what_may_be_two_roles_of_one_database_is_no_contradiction(owner: str) -> None:
    """Two addresses may be of one server, and a pooler has its own names."""
    _, problems = told(
        DATABASE_URL=URL, SCIM_LEDGER_OWNER_DATABASE_URL=owner, SCIM_LEDGER_PEPPER=SECRET
    )
    assert problems == []
