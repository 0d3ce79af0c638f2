"""Errors of a request that no command was made of, as one tree.

The ledger's own refusals are another, `domain.errors`; what a client is told about either stands in
one table, `http/problems.py`.
"""

from collections.abc import Mapping, Sequence

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One broken rule. pointer: RFC 6901, into the body; or the name of a query parameter."""

    pointer: str
    detail: str


class RequestRefused(Exception):
    """Root of everything that the edge refuses on purpose."""


class BadRequest(RequestRefused):
    """The request breaks a rule of the contract.

    detail, errors: written for clients. status: a 4xx.
    """

    def __init__(
        self,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.status = status
        self.headers = headers or {}


class InvalidCursor(RequestRefused):
    """Not a cursor of ours, or of another list."""


class InvalidForm(RequestRefused):
    """The form breaks a rule of RFC 6749 §5.2. error: its code; detail: without any value."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail


class NoGoodToken(RequestRefused):
    """No API token, or none that is good. detail: what to change, without the value."""

    def __init__(self, detail: str, *, was_presented: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.was_presented = was_presented


class TooManyRequests(RequestRefused):
    """A bucket is empty.

    retry_after_s: whole seconds, at least 1 (Okta reads nothing but an integer).
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s
