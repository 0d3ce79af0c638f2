"""Classes of routes: what metrics, log lines and traces tell instead of a path."""

from typing import Final

from api.telemetry.catalogue import ROUTES

_ROUTE_OF: Final = {f"/{route}": route for route in ROUTES[:-1]} | {
    **dict.fromkeys(("/healthz", "/readyz"), "health"),
    **dict.fromkeys(("/", "/problems", "/robots.txt", "/favicon.ico"), "docs"),
}


def route_of(path: str) -> str:
    """The class of a request's route, of which there are few."""
    end = path.find("/", 1)
    return _ROUTE_OF.get(path if end < 0 else path[:end], "other")
