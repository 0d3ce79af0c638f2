"""API tokens: who may call the administrative API. What others need of them is named here."""

from domain.api_token.events import (
    DEPLOYMENT_WIDE,
    EVENTS,
    ApiTokenEvent,
    Created,
    Permission,
    Refused,
    Revoked,
    Rotated,
    Used,
)
from domain.api_token.token import DEFAULT_LIFETIME, USE_EVERY, ApiToken, evolve

__all__ = [
    "DEFAULT_LIFETIME",
    "DEPLOYMENT_WIDE",
    "EVENTS",
    "USE_EVERY",
    "ApiToken",
    "ApiTokenEvent",
    "Created",
    "Permission",
    "Refused",
    "Revoked",
    "Rotated",
    "Used",
    "evolve",
]
