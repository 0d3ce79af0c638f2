"""All views are rebuilt while clients authenticate and read:
no error, and no answer that is not right.

On a short history; on a long one, and with kills, in
`tests/faults/processes/test_rebuild_of_a_million.py`.
"""

import json

import pytest

from projections.registry import PROJECTIONS
from tests.api.cli import forked_cli
from tests.faults.walks import Walks, WrongAnswer, present
from tests.patience import patient
from tests.service import RunningService, service_environment

__all__ = ["patient"]


@pytest.mark.long
def test_nobody_notices(service: RunningService) -> None:
    walks = Walks(service)
    with walks.running(threads=2):
        for _ in range(2):
            assert rebuild_all(service) == [projection.name for projection in PROJECTIONS]
    assert walks.walks > 1
    done = forked_cli.run(
        ["projections", "verify", "--json"], service_environment(service.database.app)
    )
    assert (done.exit_code, [each["difference"] for each in json.loads(done.stdout)]) == (
        0,
        [None] * 4,
    )


@pytest.mark.long
def test_planted_an_answer_that_is_not_right_is_noticed(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A door that tells the use of somebody else."""
    monkeypatch.setattr("tests.faults.walks.present", lambda *asked: present(*asked)[::-1])
    walks = Walks(service)
    with pytest.raises(WrongAnswer, match="it is this very use"), walks.running(threads=1):
        pass


def rebuild_all(service: RunningService) -> list[str]:
    environment = service_environment(service.database.app)
    done = forked_cli.run(["projections", "rebuild", "--all", "--json"], environment)
    assert done.exit_code == 0, done.stderr
    forked_cli.run(["projections", "drop-old"], environment)
    return [each["name"] for each in json.loads(done.stdout)]
