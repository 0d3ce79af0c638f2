"""Check what needs no database: this machine, the pepper's file, the embedded server."""

import os
import resource
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from api.doctor.before_start import NEEDS
from api.doctor.finding import Finding, fail, ok, warn
from api.process import FEWEST, OTHER_DESCRIPTORS
from api.settings import PREFIX, Settings, SettingsError, UnusableFile, pepper_keys
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.embedded.server import EmbeddedPostgres
from domain.secret import Pepper

PYTHON: Final = (3, 11)
FILES: Final = 4096
"""What the connections of a busy gateway and an upstream need."""
ROOM: Final = 1 << 30
"""Bytes: what a busy ledger grows by in some hours."""


def python() -> Finding:
    """The interpreter."""
    found = sys.version.split()[0]
    if sys.version_info < PYTHON:
        return fail("python", found, "run it with Python 3.11 or later")
    return ok("python", found)


def open_files() -> Finding:
    """How many connections a worker may hold."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedy = "raise it: ulimit -n, LimitNOFILE= of systemd, or the ulimits of the container"
    if limit == resource.RLIM_INFINITY or limit >= FILES:
        return ok("open files", "as many as a worker can use")
    if limit < OTHER_DESCRIPTORS + FEWEST:
        return fail("open files", f"a process may open {limit}, too few for a worker", remedy)
    return warn(
        "open files", f"a process may open {limit}: connections beyond that are refused", remedy
    )


def pepper(settings: Settings) -> Iterator[Finding]:
    """The keys that digest secrets, and who else can read them."""
    try:
        keys = Pepper(pepper_keys(settings))
    except UnusableFile as error:
        yield fail("pepper", error.found, error.remedy)
        return
    except (SettingsError, ValueError) as error:
        yield fail(
            "pepper",
            str(error),
            f"set {PREFIX}PEPPER_FILE to the file of the ledger's keys; "
            "only a new ledger takes a new one, which is random",
        )
        return
    if settings.pepper is not None:
        yield warn(
            "pepper",
            f"{keys.generation} key(s), in the environment, which every "
            f"process of this user can read",
            f"put them into a file that only the service can read, and set {PREFIX}PEPPER_FILE",
        )
        return
    yield ok("pepper", f"{keys.generation} key(s)")
    assert settings.pepper_file is not None
    yield pepper_file(settings.pepper_file)


def pepper_file(path: Path) -> Finding:
    """Its permissions."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warn(
            "pepper file", f"others may read or write it (mode {mode:04o})", f"chmod 600 {path}"
        )
    return ok("pepper file", "only its owner may read it")


def leak_reports(settings: Settings) -> Iterator[Finding]:
    """What follows when a leak is reported."""
    what = "is revoked" if settings.on_leak == "revoke" else "is marked, and goes on"
    yield ok("leaks", f"a SCIM token whose leak is reported {what}")


NEEDED_AS: Final = {
    "github_keys_file": ("github keys", "reports of leaks are taken"),
    "metrics_token_file": ("metrics tokens", "/metrics is answered to them"),
    "traces_endpoint": ("traces", "what they need is installed"),
}
"""How a finding about a need of a setting is called, and what it says when it is there."""


def needs(settings: Settings) -> Iterator[Finding]:
    """Whether a start finds what the settings ask for; the head file is the ledger's to judge."""
    for setting, (what, found) in NEEDED_AS.items():
        if getattr(settings, setting) is None:
            continue
        try:
            NEEDS[setting](settings)
        except SettingsError as error:
            said, _, remedy = str(error).rpartition(": ")
            yield fail(what, said, remedy)
        else:
            yield ok(what, found)


def embedded_server(server: EmbeddedPostgres) -> Finding:
    """Whether it runs, and where its data is."""
    try:
        is_running, has_cluster = server.is_running, server.has_cluster
    except EmbeddedPostgresError as error:
        return fail(
            "embedded server",
            str(error).splitlines()[0],
            "choose another with --data-dir, or mend it",
        )
    if is_running:
        return ok("embedded server", f"running; its data: {server.base_dir}")
    if has_cluster:
        return ok("embedded server", f"not running; its data: {server.base_dir}")
    return fail(
        "embedded server",
        f"there is no ledger in {server.base_dir}",
        "name the data directory with --data-dir, or make a ledger with scim-ledger serve",
    )


def disk(directory: Path, *, room: int = ROOM) -> Finding:
    """What is left where the embedded server keeps its data. room: bytes that are enough."""
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    found = f"{free / (1 << 30):.1f} GB free"
    if free < room or not os.access(directory, os.R_OK | os.X_OK):
        return warn(
            "disk", found, f"make room on the disk of {directory}: a full one stops every append"
        )
    return ok("disk", found)
