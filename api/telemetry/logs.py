"""Logging: one line a record on standard error, a JSON object or logfmt text.

No bodies, no headers, no query strings, no paths, ever.
"""

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import Processor

from api.telemetry.routes import route_of

FORMATS: Final[Mapping[str, Processor]] = {
    "json": structlog.processors.JSONRenderer(),
    "text": structlog.processors.LogfmtRenderer(
        key_order=("timestamp", "level", "event"), drop_missing=True
    ),
}
_access: Final = structlog.get_logger()


class _LeavesOut:
    """A stream for lines of the log: what cannot be written is left out.

    Its disk may be full, or whoever reads it gone: no reason to refuse a request, or to end. The
    next line is tried again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As of any stream."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As of any stream."""
        with suppress(OSError):
            self._stream.flush()


def logging_given() -> tuple[str, str]:
    """Level and format from the environment, before settings are read: they may be refused."""
    level = os.environ.get("SCIM_LEDGER_LOG_LEVEL", "info")
    return level.strip(), os.environ.get("SCIM_LEDGER_LOG_FORMAT", "json").strip()


def configure_logging(level: str, format_: str = "json") -> None:
    """Set up structlog, and the standard library's loggers through the same line format."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [
        structlog.processors.format_exc_info,
        FORMATS.get(format_, FORMATS["json"]),
    ]
    stream = None if sys.stderr is None else cast("TextIO", _LeavesOut(sys.stderr))
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


def log_answer(scope: Mapping[str, Any], status: int, duration_us: int) -> None:
    """One line of the access log: what was answered, and nothing that was sent.

    Of methods the parser lets through those that are registered.
    """
    _access.info(
        "request",
        request_id=scope["state"].get("request_id"),
        method=scope["method"],
        route=route_of(scope["path"]),
        status=status,
        duration_ms=duration_us / 1000,
    )


def log_refusal(status: int) -> None:
    """The line of what was no request that could be read."""
    _access.info("request", route="unread", status=status)
