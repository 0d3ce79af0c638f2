"""The settings that the embedded server is started with."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "100",
    # Off: the wheel has only pglz. With a million tokens a use changes three pages that nothing has
    # changed since the last checkpoint; packing their images left the doors 0.4 of their rate for
    # seconds after each.
    "wal_compression": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "client_connection_check_interval": "500ms",
    # A statement, a parameter or the DETAIL of a violated key may carry what must never be in a
    # log.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}
_DURABILITY: Final = ("fsync", "full_page_writes", "synchronous_commit")


def settings_of(*, is_durable: bool, others: Mapping[str, str]) -> Mapping[str, str]:
    """All of them. others: override ours."""
    durability = dict.fromkeys(_DURABILITY, "on" if is_durable else "off")
    return {"shared_buffers": _shared_buffers(), **_SETTINGS, **durability, **others}


def _shared_buffers() -> str:
    """An eighth of the memory, 128 MB to 1 GB: it is taken only as far as the ledger fills it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(FileNotFoundError, ValueError):  # "max" where a container has no limit
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return f"{min(max(memory // 8 >> 20, 128), 1024)}MB"
