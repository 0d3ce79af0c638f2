"""These tests are not about deadlines."""

from tests.patience import patient

__all__ = ["patient"]
