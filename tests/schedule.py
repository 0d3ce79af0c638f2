"""How a parallel run divides the files: which begin, and which one worker has because they share
a service.
"""

from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

LONGEST: Final = (
    "database/test_unavailable",
    "cli/test_manners",
    "processes/test_no_record_no_yes",
    "server/test_supervisor",
    "follow/test_damage",
    "server/test_slow_readers",
    "cli/test_reading",
    "eventstore/test_use_contract",
    "processes/test_two_processes",
    "doctor/test_doctor",
    "cli/test_projections",
    "server/test_protocol",
    "promises/test_isolation",
    "postgres/test_session",
    "scim_tokens/test_queries",
    "gateways/test_middleware",
    "resources/test_feed",
    "stateful/test_audit_machine",
    "stateful/test_ledger_machine",
    "server/test_framing",
    "repository/test_statements",
    "database/test_synchronous",
    "eventstore/test_ledger_time",
    "warnings/test_teller",
    "resources/test_warnings",
    "leaks/test_command_line",
    "cli/test_flags",
    "linearizability/test_histories",
    "audit_trail/test_audit_plans",
    "processes/test_revoke_storm",
    "database/test_switchover",
)
"""Files of seven seconds and more, by folder and name, in the order in which a run begins them:
each that waits stands between two that work.
"""

SHARING: Final = (
    ("tests/api/resources/",),
    (
        "tests/api/promises/",
        "tests/api/http/",
        "tests/api/doors/scim/test_door.py",
        "tests/api/leaks/test_adapters.py",
        "tests/api/leaks/test_report.py",
        "tests/api/telemetry/test_access_log.py",
        "tests/api/test_api_token_authentication.py",
        "tests/api/test_documented_calls.py",
        "tests/gateways/test_middleware.py",
    ),
    (
        "tests/api/doors/scim/test_proxy.py",
        "tests/api/doors/scim/test_proxy_failures.py",
        "tests/api/doors/scim/test_upstream_places.py",
        "tests/api/server/test_client_framing.py",
    ),
    tuple(
        f"tests/console/test_{name}.py"
        for name in (
            *("api_tokens", "audit", "bulk", "entrance", "isolation", "new_token", "setup"),
            *("token", "tokens"),
        )
    ),
)
"""Files and folders whose tests share services of the session: a start costs what fifty tests do,
and each worker that has one of them starts its own.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: a parallel run gives each file to one worker."""
    places = {name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        return places.get(f"{item.path.parent.name}/{item.path.stem}", len(LONGEST))

    items.sort(key=place)


class _Scheduling(LoadFileScheduling):  # type: ignore[misc]  # the plugin has no types
    """A file is one worker's, and so are files that share a service."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((names[0] for names in SHARING if file.startswith(names)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """The plugin's hook: how a run by files is divided."""
    return _Scheduling(config, log) if config.getoption("dist") == "loadfile" else None
