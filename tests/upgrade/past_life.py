"""What only days bring about, or the loss of what came after a backup: the ledger's first months.

The parts of the release live through it in the order of time, each told that it is so long ago.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.upgrade.kept import pepper_keys
from tests.upgrade.making import IPV4, USER_A, Making

DAY: Final = timedelta(days=1)
_WITHIN_S: Final = 30
USES: Final = 5
"""Of one token on the first day: all but the first and the last are in the archive alone."""


def past_life(making: Making, place: Path) -> None:
    """A loss after a restore, a silence, a rotation whose older secret is used, the end of a key,
    and what is old enough leaves.

    place: for a backup, the directory that is restored into, and the archive.
    """
    release = making.release
    pepper = release.data_dir / "pepper"
    pepper.write_text(pepper_keys(0))
    release.ago = 100 * DAY
    with release.serving("long-ago") as making.client:
        making.api_token("admin", "--user", USER_A, "--never-expires")
        _no_other_caller(making)
        for name in ("silent for long", "of the first key", "rotated of old"):
            making.create(name)
        for _ in range(USES):
            assert making.use("of the first key") == 200
        assert making.use("rotated of old") == 200
        release.run("backup", str(place / "before-the-loss.dump"))
        making.create("lost")
        making.forget("lost")
    _restore(making, place)
    pepper = release.data_dir / "pepper"
    pepper.write_text(pepper_keys(0, 1))
    release.ago = 9 * DAY
    with release.serving("days-ago") as making.client:
        _until(lambda: _has_happened(making, "scim_token.unused"))
        making.rotate("rotated of old", overlap_s=8 * 86_400)
    release.ago = 7 * DAY
    with release.serving("two-days-later") as making.client:
        assert making.use("of the first key") == 200
        older = making.secrets_of("rotated of old")[0]
        assert making.present(f"Bearer {older}", "/gateway/nginx", source=IPV4[0]) == 200
        _until(lambda: _has_happened(making, "scim_token.old_secret_still_used"))
        making.revoke("silent for long", reason="nobody misses it")
        _until(lambda: _left(making) == 0)
        release.run("keys", "retire", "1", "--reason", "the yearly rotation")
    pepper.write_text(pepper_keys(None, 1))
    release.ago = timedelta()
    archive = place / "archive"
    archive.mkdir()
    days = ("--older-than-days", "90", "--remove")
    assert release.told("archive", str(archive), *days)["removed"] == USES - 2


def _no_other_caller(making: Making) -> None:
    """Nobody uses the token that `serve` made first."""
    admin = making.api_tokens["admin"]["id"]
    for each in making.release.told("api-token", "list"):
        if each["id"] != admin:
            making.release.run("api-token", "revoke", each["id"])


def _restore(making: Making, place: Path) -> None:
    """Into a directory of its own, beside a head file that knows more."""
    release = making.release
    before, release.data_dir = release.data_dir, place / "restored"
    release.data_dir.mkdir(mode=0o711)
    for name in ("pepper", "head.json"):
        (release.data_dir / name).touch(mode=0o600)
        (release.data_dir / name).write_bytes((before / name).read_bytes())
    release.run("restore", str(place / "before-the-loss.dump"))
    release.run("recover", "--declare-loss", "--reason", "the disk broke; an older backup")


def _has_happened(making: Making, kind: str) -> bool:
    answer = making.call("GET", f"/audit?kind={kind}")
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["result"])


def _left(making: Making) -> int:
    """Digests of good secrets under the first key."""
    first = making.release.told("keys")[0]
    left: int = first["scim_tokens"] + first["api_tokens"] + first["setup_links"]
    return left


def _until(is_done: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + _WITHIN_S
    while not is_done():
        assert time.monotonic() < ends_at
        time.sleep(0.5)
