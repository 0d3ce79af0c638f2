"""The how-tos for whoever runs the service: a SIEM, a disk, a replica."""

import csv
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.api_token.permissions import Permission
from tests.api.expected import create
from tests.docs.documents import blocks
from tests.docs.how_to.test_connect import environment, run
from tests.service import RunningService, until

pytestmark = pytest.mark.long


def only(word: str, name: str) -> str:
    (script,) = blocks(word, document=f"docs/how-to/{name}.md")
    return script


def stored(events: Path) -> list[dict[str, Any]]:
    """Whole lines alone: the collector may be writing one."""
    whole, _, _ = events.read_text().rpartition("\n") if events.exists() else ("", "", "")
    return [json.loads(line) for line in whole.splitlines()]


def test_a_collector_has_every_event_and_goes_on_where_it_was(
    service: RunningService, tmp_path: Path
) -> None:
    made = run(service, only("token", "siem"), COLLECTOR=str(uuid4()))
    api_token = next(line.split()[1] for line in made.splitlines() if line.startswith("token:"))
    token = create(service, service.api_token())
    given = environment(service, URL=service.url, API_TOKEN=api_token)
    events = tmp_path / "events.ndjson"

    def collects(subject: str) -> None:
        collector = subprocess.Popen(
            ["bash", "-eu", "-c", only("follow", "siem")],
            cwd=tmp_path, env=given, start_new_session=True,
        )  # fmt: skip
        try:
            until(
                lambda: any(event["subject"] == subject for event in stored(events)),
                timeout_s=20, what="the event",
            )  # fmt: skip
            last = int(stored(events)[-1]["id"])
            position = tmp_path / "position"
            until(lambda: int(position.read_text() or 0) >= last, what="the position")
        finally:
            os.killpg(collector.pid, signal.SIGKILL)
            collector.wait()

    collects(f"scim_token/{token['id']}")
    before = len(stored(events))
    other = create(service, service.api_token())
    collects(f"scim_token/{other['id']}")
    assert len(stored(events)) < 2 * before, "it went on, and did not begin anew"
    positions = [int(event["id"]) for event in stored(events)]
    assert set(positions) == set(range(1, max(positions) + 1))


def test_what_was_before_is_exported(service: RunningService, tmp_path: Path) -> None:
    token = create(service, service.api_token())
    api_token = service.api_token(Permission.AUDIT_READ).secret
    script = only("export", "siem")
    run(service, f"cd '{tmp_path}'\n{script}", URL=service.url, API_TOKEN=api_token)
    lines = (tmp_path / "trail.ndjson").read_text().splitlines()
    assert any(json.loads(line)["token_id"] == token["id"] for line in lines)
    with (tmp_path / "trail.csv").open(newline="") as exported:
        assert any(row["token_id"] == token["id"] for row in csv.DictReader(exported))


def test_the_disk_is_told_and_a_replica_is_asked(service: RunningService) -> None:
    api_token = service.api_token(Permission.PROJECTIONS_MANAGE).secret
    told = run(service, only("disk", "sizing"), URL=service.url, API_TOKEN=api_token)
    assert 'group="events"' in told
    assert json.loads(run(service, only("ready", "high-availability"), URL=service.url))
    assert "damage: -" in run(service, only("count", "high-availability"))


def test_a_collector_that_cannot_store_does_not_go_on(
    service: RunningService, tmp_path: Path
) -> None:
    """A full disk: what it could not store is asked for again. A refusal is told."""
    create(service, service.api_token())
    (tmp_path / "events.ndjson").symlink_to("/dev/full")
    for token in (service.api_token(Permission.AUDIT_READ).secret, "no-token"):
        given = environment(service, URL=service.url, API_TOKEN=token)
        with (tmp_path / "said").open("wb") as said:
            subprocess.run(
                ["timeout", "4", "bash", "-eu", "-c", only("follow", "siem")],
                cwd=tmp_path, env=given, stderr=said, check=False,
            )  # fmt: skip
        assert (tmp_path / "position").read_text() == "0\n"
        assert (tmp_path / "said").read_text() != ""
