"""Whether there are traces: without them, nothing of the library is loaded."""

from typing import TYPE_CHECKING

from api.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    from api.telemetry.traces import Tracing


def tracing_of(settings: Settings) -> "Tracing | None":
    """What traces, None where the settings ask for nothing. Raises SettingsError."""
    check_tracing(settings)
    if settings.traces_endpoint is None:
        return None
    from api.telemetry.traces import Tracing  # noqa: PLC0415 - of an extra

    return Tracing(settings)


def check_tracing(settings: Settings) -> None:
    """Raise SettingsError where traces are asked for and cannot be."""
    if settings.traces_endpoint is None:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415 - of an extra
        import opentelemetry.sdk.trace  # noqa: F401, PLC0415
    except ImportError:
        raise SettingsError(
            f"{PREFIX}TRACES_ENDPOINT needs the extra traces: "
            "docs/how-to/install.md#extras installs it"
        ) from None
