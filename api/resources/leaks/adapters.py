"""The routes for programs that report leaks by contracts of their own; none unless the settings
say so.
"""

from collections.abc import Sequence
from typing import Any

from api.resources.leaks.github import PATH, github_reports
from api.resources.leaks.gitlab import OPERATIONS
from api.resources.leaks.signature import github_keys
from api.settings import Settings


def leak_adapters(settings: Settings) -> Sequence[Any]:
    """The routes of the adapters that are switched on. Raises SettingsError."""
    routes: list[Any] = []
    if (keys := github_keys(settings)) is not None:
        routes.append(github_reports(keys))
    if settings.gitlab_revocation:
        routes += OPERATIONS
    return routes


def signed_paths(settings: Settings) -> Sequence[str]:
    """The paths whose callers are known by a signature and need no API token."""
    return () if settings.github_keys_file is None else (PATH,)
