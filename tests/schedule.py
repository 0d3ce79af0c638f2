"""How a parallel run divides the files: which begin, and which one worker has because they share
a service.
"""

from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

LONGEST: Final = (
    "resources/test_feed",
    "promises/test_isolation",
    "database/test_unavailable",
    "linearizability/test_histories",
    "console/test_tokens",
    "cli/test_manners",
    "server/test_warnings_stand_still",
    "doctor/test_doctor",
    "keys/test_retire",
    "processes/test_no_record_no_yes",
    "cli/test_projections",
    "scim_tokens/test_queries",
    "cli/test_reading",
    "server/test_slow_readers",
    "eventstore/test_use_contract",
    "telemetry/test_metrics",
    "server/test_supervisor",
    "console/test_system",
    "follow/test_damage",
    "server/test_protocol",
    "postgres/test_session",
    "processes/test_two_processes",
    "scim/test_proxy",
    "server/test_framing",
    "database/test_switchover",
    "telemetry/test_traces",
    "database/test_synchronous",
    "api_tokens/test_lists",
    "stateful/test_ledger_machine",
    "stateful/test_audit_machine",
    "processes/test_revoke_storm",
)
"""Files of five seconds and more, by folder and name, in the order in which a run begins them, the
longest first: one of a room of `SHARING` begins its room.
"""

SHARING: Final = (
    ("tests/api/resources/",),
    (
        "tests/api/promises/",
        "tests/api/http/",
        "tests/api/doors/scim/test_door.py",
        "tests/api/doors/test_allowed_networks.py",
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
        "tests/api/doors/scim/test_upstream_slots.py",
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
