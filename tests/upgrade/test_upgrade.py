"""A ledger that the release before made: opened, used, verified and rebuilt by this one."""

import gzip
import threading
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from projections.warnings.teller import EVERY_S
from tests.service import COMMAND, until
from tests.upgrade import archive, checks, kept
from tests.upgrade.checks import Caller
from tests.upgrade.release import Release, out_of_the_history

pytestmark = pytest.mark.long

BEFORE: Final = "65044aa6485ef1f7a82cf772ab00efae832e6ce6"
"""The commit whose code made the kept ledger."""
PLANTED: Final = Path(__file__).with_name("planted")
ADMIN: Final = Caller("admin")
TEAM: Final = "05daecaf-4365-42e8-8370-8127de5dd717"


def directory(place: Path) -> Path:
    """The kept data directory and its key."""
    data_dir = with_pepper(place / "ledger")
    archive.unpack(kept.KEPT / "data.tar.xz", data_dir)
    return data_dir


def with_pepper(data_dir: Path) -> Path:
    """A new data directory that holds the key alone."""
    data_dir.mkdir(mode=0o711)
    pepper = data_dir / "pepper"
    pepper.touch(mode=0o600)
    pepper.write_text(kept.pepper())
    return data_dir


def restored(place: Path) -> Path:
    """A data directory made of the kept dump."""
    data_dir = with_pepper(place / "restored")
    told = Release(Path(COMMAND), data_dir).told("restore", str(kept.KEPT / "ledger.dump"))
    assert told == kept.told()["verified"]
    return data_dir


@pytest.fixture(params=[kept.BEFORE, kept.THIS], ids=["before", "this"])
def ledger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kept ledger. What this release itself made is read as the next one will."""
    monkeypatch.setattr(kept, "KEPT", request.param)
    kept_at: Path = request.param
    return kept_at


@pytest.fixture(params=[directory, restored])
def release(request: pytest.FixtureRequest, ledger: Path, place: Path) -> Release:
    """This release, on a kept ledger."""
    assert ledger == kept.KEPT
    return Release(Path(COMMAND), request.param(place))


def trails(release: Release) -> None:
    """What needs no service."""
    assert checks.assert_trail_begins(release.run("audit", "export")) == 0
    compared = ["--seals", str(kept.KEPT / "seals.txt")]
    if (kept.KEPT / "archive").exists():
        compared += ["--archive", str(kept.KEPT / "archive")]
    assert release.told("verify", "--expect-events", *compared) == kept.told()["verified"]
    assert release.told("api-token", "list") == kept.told()["api_tokens"]


def test_all_that_was_said_is_said_again_also_by_views_made_anew(release: Release) -> None:
    trails(release)
    with release.serving("service") as client:
        checks.says_the_same(client)
        release.run("projections", "rebuild", "--all")
        checks.says_the_same(client)
        checks.callers_may_the_same(client)
        checks.secrets_answer_the_same(client)
    checks.is_whole(release)


def test_it_goes_on(release: Release) -> None:
    with release.serving("service") as client:
        old = {
            each["token_id"]: kept.presented(each)
            for each in kept.told()["secrets"]
            if checks.good_now(each) == "yes"
        }
        active = {each["id"]: each for each in tokens(client)}
        good = [id_ for id_ in active if id_ in old]  # one is suspended
        for id_ in good:
            used(client, old[id_])
            assert document(client, id_)["last_used_at"] > (active[id_]["last_used_at"] or "")
        rotating, revoking, burning, *_ = good
        new = client.post(f"/scim-token/{rotating}/rotate", auth=ADMIN, json={"overlap_seconds": 0})
        refused(client, old[rotating])
        used(client, new.json()["token"])
        assert client.delete(f"/scim-token/{revoking}", auth=ADMIN).status_code == 200
        refused(client, old[revoking])
        assert client.post("/revoke", data={"token": old[burning]}).status_code == 200
        refused(client, old[burning])
        made = create(client)
        used(client, made["token"])
        listed = {each["id"] for each in tokens(client)}
        assert listed == active.keys() - {revoking, burning} | {made["id"]}
        release.run("projections", "rebuild", "--all")
        assert {each["id"] for each in tokens(client)} == listed
    checks.is_whole(release)


def test_every_kind_of_event_of_that_release_is_in_it() -> None:
    assert kept.kinds_of(kept.trail()) == kept.KINDS
    assert kept.known_kinds() >= kept.KINDS


@pytest.mark.parametrize("ledger", [kept.THIS], indirect=True)
def test_all_that_this_release_records_is_in_its_ledger(ledger: Path) -> None:
    """If this fails: there is a new kind of event, which the maker is to bring about."""
    assert ledger == kept.THIS
    assert kept.kinds_of(kept.trail()) == kept.known_kinds()


def test_nothing_that_is_kept_holds_a_secret(place: Path, ledger: Path) -> None:
    assert ledger == kept.KEPT
    archive.unpack(kept.KEPT / "data.tar.xz", place)
    files = [path for path in (*kept.KEPT.rglob("*"), *place.rglob("*")) if path.is_file()]
    text = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in files
    )
    told = kept.told()
    shown = [kept.presented(each) for each in (*told["secrets"], *told["callers"])]
    assert len(shown) > 20
    for secret in (*shown, *kept.pepper_keys(0, 1, 2).split()):
        assert secret.encode() not in text


def test_an_event_that_is_read_as_something_else_is_found(place: Path) -> None:
    """Planted: a reason is lost where a revocation is decoded."""
    release = Release(Path(COMMAND), restored(place), modules=PLANTED)
    with pytest.raises(AssertionError, match="left the company"):
        trails(release)


# The release before and this one, beside each other


@pytest.fixture
def before(place: Path) -> Release:
    """The release before, out of the history."""
    return out_of_the_history(BEFORE, directory(place))


def test_one_release_after_another_without_a_stop(before: Release) -> None:
    """The older one serves while the newer one migrates, starts, is taken back, and comes again."""
    after = Release(Path(COMMAND), before.data_dir)
    old = {each["what"]: kept.presented(each) for each in kept.told()["secrets"]}
    with before.serving("before") as older:
        with used_all_the_while(older, old["busy"]), after.serving("after") as newer:
            checks.callers_may_the_same(newer)
            for maker, other in ((older, newer), (newer, older)):
                made = create(maker)
                for client in (other, maker):
                    used(client, made["token"])
                # Long enough that a warning of that use would be told: the older would stop at it.
                time.sleep(2 * EVERY_S)
                for client in (other, maker):
                    assert made["id"] in {each["id"] for each in tokens(client)}
                rotated = other.post(
                    f"/scim-token/{made['id']}/rotate", auth=ADMIN, json={"overlap_seconds": 0}
                )
                for client in (maker, other):
                    refused(client, made["token"])
                    used(client, rotated.json()["token"])
                assert other.delete(f"/scim-token/{made['id']}", auth=ADMIN).status_code == 200
                for client in (maker, other):
                    refused(client, rotated.json()["token"])
                    assert made["id"] not in {each["id"] for each in tokens(client)}
        used(older, create(older)["token"])
        with after.serving("again") as newer:
            used(newer, create(older)["token"])
    with after.serving("alone") as newer:
        used(newer, old["busy"])
        until(lambda: bool(first_uses(newer)), what="the warnings that waited")
    checks.is_whole(after)


def test_a_backup_by_the_newer_one_leaves_the_ledger_to_the_older(before: Release) -> None:
    """That one refuses every later schema: had its embedded server been migrated, it would not
    start.
    """
    old = {each["what"]: kept.presented(each) for each in kept.told()["secrets"]}
    after = Release(Path(COMMAND), before.data_dir)
    events = after.told("backup", str(before.data_dir.with_name("dump")))["events"]
    assert events == kept.told()["verified"]["events"]
    with before.serving("before") as older:
        used(older, old["busy"])


class used_all_the_while:  # noqa: N801 - reads as a phrase
    """Present a secret a hundred times a second; each time it is let in."""

    def __init__(self, client: httpx.Client, secret: str) -> None:
        self._ends = threading.Event()
        self._statuses: list[int] = []
        self._asks = threading.Thread(target=self._ask, args=(str(client.base_url), secret))

    def _ask(self, url: str, secret: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
            while not self._ends.wait(0.01):  # below the rate that a token is given
                self._statuses.append(present(client, secret))

    def __enter__(self) -> None:
        self._asks.start()
        until(lambda: bool(self._statuses), what="a use")

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._asks.join()
        assert set(self._statuses) == {200}


def present(client: httpx.Client, secret: str) -> int:
    """The status of a door."""
    answer = client.get("/gateway/forward", headers={"Authorization": f"Bearer {secret}"})
    return answer.status_code


def used(client: httpx.Client, secret: str) -> None:
    """It is let in."""
    assert present(client, secret) == 200


def refused(client: httpx.Client, secret: str) -> None:
    """It is not."""
    assert present(client, secret) == 401


def create(client: httpx.Client) -> Any:
    """A new token's document, with its secret."""
    answer = client.post("/scim-token", auth=ADMIN, json={"team_id": TEAM, "name": "new"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def first_uses(client: httpx.Client) -> Any:
    """What was told of first uses."""
    answer = client.get("/audit?kind=scim_token.first_used", auth=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def document(client: httpx.Client, id_: str) -> Any:
    """A token."""
    return client.get(f"/scim-token/{id_}", auth=ADMIN).json()


def tokens(client: httpx.Client) -> Any:
    """The active ones."""
    answer = client.get("/scim-token?limit=1000", auth=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]
