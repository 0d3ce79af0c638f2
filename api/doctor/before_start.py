"""What a start needs beside its settings: files with the right content, and what is an extra.

A worker alone would find out, refuse to start, and be started again, for ever.
"""

from collections.abc import Callable, Mapping
from typing import Final

from api.resources.leaks.signature import github_keys
from api.resources.metrics_token import metrics_tokens
from api.settings import Settings, check_head_file
from api.telemetry.tracing import check_tracing

NEEDS: Final[Mapping[str, Callable[[Settings], object]]] = {
    "head_file": check_head_file,
    "github_keys_file": github_keys,
    "metrics_token_file": lambda settings: metrics_tokens(settings.metrics_token_file),
    "traces_endpoint": check_tracing,
}
"""By the setting that asks for it. Each raises SettingsError, and has nothing to say without it."""
