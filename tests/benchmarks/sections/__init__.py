"""What can be measured: one module and one line each. A section takes the run and yields rows."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from tests.benchmarks.bench import Bench
from tests.benchmarks.result import Row
from tests.benchmarks.sections.administration import administration
from tests.benchmarks.sections.authenticate import authenticate
from tests.benchmarks.sections.bare_answers import bare_answers
from tests.benchmarks.sections.console import console
from tests.benchmarks.sections.create import create
from tests.benchmarks.sections.gateway import gateway
from tests.benchmarks.sections.load import load
from tests.benchmarks.sections.memory import memory
from tests.benchmarks.sections.postgres import postgres
from tests.benchmarks.sections.start import start
from tests.benchmarks.sections.views.audit_export import audit_export
from tests.benchmarks.sections.views.audit_pages import audit_pages
from tests.benchmarks.sections.views.following import following
from tests.benchmarks.sections.views.list_tokens import list_tokens
from tests.benchmarks.sections.views.projections import projections
from tests.benchmarks.sections.views.rebuild_audit import rebuild_audit
from tests.benchmarks.sections.views.rebuild_load import rebuild_load
from tests.benchmarks.sections.workers import workers

Section: TypeAlias = Callable[[Bench], Iterator[Row]]

SECTIONS: Final[Mapping[str, Section]] = {
    "postgres": postgres,
    "administration": administration,
    "create": create,
    "authenticate": authenticate,
    "bare-answers": bare_answers,
    "workers": workers,
    "gateway": gateway,
    "list": list_tokens,
    "console": console,
    "load": load,
    "memory": memory,
    "projections": projections,
    "audit-pages": audit_pages,
    "audit-export": audit_export,
    "rebuild-audit": rebuild_audit,
    "rebuild-load": rebuild_load,
    "following": following,
    "start": start,
}
