"""For the fuzzer: a key of its own for each request.

With one key for all, the second request is refused for it, whatever else is wrong with it.
"""

from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.core.parameters import ParameterLocation


def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Leave headers be that were broken on purpose."""
    headers = case.meta and case.meta.components.get(ParameterLocation.HEADER)
    is_broken = headers and headers.mode.is_negative
    if case.headers and case.headers.get("Idempotency-Key") and not is_broken:
        case.headers["Idempotency-Key"] = str(uuid4())


schemathesis.hook(before_call)
