"""Logging: one line a record on standard error, a JSON object or logfmt text.

No bodies, no headers, no query strings, no paths, ever.
"""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

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
        _tell_left_out,
    ]
    rendered: list[Processor] = [
        structlog.processors.format_exc_info,
        FORMATS.get(format_, FORMATS["json"]),
    ]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


def _tell_left_out(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    left_out = getattr(sys.stderr, "left_out", 0)  # of LogLines
    return {**event, "lines_left_out": left_out} if left_out else event


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


def log_refusal(status: int, request_id: str) -> None:
    """The line of what was no request that could be read."""
    _access.info("request", request_id=request_id, route="unread", status=status)
