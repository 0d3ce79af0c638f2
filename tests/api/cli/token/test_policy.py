"""`scim-ledger policy set` and `policy lift`."""

from typing import Final

import pytest

from tests.api.cli.test_commands import refused, told
from tests.conftest import Database

TEAM: Final = "00000000-0000-0000-0000-000000000001"
ADA: Final = "00000000-0000-0000-0000-000000000003"
OF_ALL: Final = {"expiry_required": True, "max_lifetime_days": 365, "max_live_tokens": None}
OF_THE_TEAM: Final = {"expiry_required": False, "max_lifetime_days": None, "max_live_tokens": 2}
NO_RULES: Final = {"expiry_required": False, "max_lifetime_days": None, "max_live_tokens": None}


@pytest.fixture(autouse=True)
def policies(database: Database) -> None:
    told(database.app, "policy", "set", "--expiry-required", "--max-lifetime-days", "365")
    told(database.app, "policy", "set", "--team", TEAM, "--max-live-tokens", "2")


def shown(database: Database) -> list[object]:
    return [told(database.app, "policy", "show", *of) for of in ((), ("--team", TEAM))]


@pytest.mark.parametrize("of", [(), ("--team", TEAM), ("--user", ADA)])
def test_a_policy_is_not_replaced_by_nothing(database: Database, of: tuple[str, ...]) -> None:
    said = refused(database.app, "policy", "set", *of, exit_code=2)
    assert said == "--max-lifetime-days: is needed, or another rule; policy lift takes all away"
    assert shown(database) == [OF_ALL, OF_THE_TEAM]


@pytest.mark.parametrize(
    ("of", "left"), [((), [NO_RULES, OF_THE_TEAM]), (("--team", TEAM), [OF_ALL, NO_RULES])]
)
def test_one_policy_is_lifted(
    database: Database, of: tuple[str, ...], left: list[dict[str, object]]
) -> None:
    assert told(database.app, "policy", "lift", "--user", ADA, *of) == NO_RULES
    assert shown(database) == left
    newest = told(database.app, "audit", "list", "--limit", "1")[0]
    assert (newest["kind"], newest["user_id"]) == ("policy.set", ADA)
