"""The list of tokens is as fast in a ledger of a million tokens as in one of a thousand."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

import psycopg
import pytest

from domain.postgres.connection import configure
from domain.postgres.prepared_statement import PreparedReads
from domain.postgres.session import READING
from tests.console.browser.chromium import first_paint_ms, sign_in, started
from tests.console.browser.static_copy import static_copy
from tests.console.large.ledger import PATH, Seen, seen
from tests.console.test_tokens import asked_for, names
from tests.projections.scim_tokens.test_token_plans import rows_read

pytestmark = pytest.mark.slow

SIZES: Final = (1_000, 10_000, 1_000_000)
PER_PAGE: Final = 25
STATEMENTS_MAX: Final = 3
ROWS_MAX: Final = 5 * (PER_PAGE + 1)
"""What a list may look at for a page: by ends, as much as it shows for each length of life."""
ROUNDS: Final = 15
PAINTS: Final = 9
SLOWER_MAX: Final = 1.5
"""What the million may cost, in answers of a smaller ledger that are asked for in turn."""
STATIC_MAX: Final = 2.5
"""When the list may be painted first, in paints of the same bytes from a server that only sends."""
ROWS: Final = {"not used for 90 days": 0, "of no name": 0, "of a name": 1}
"""Of a page that is not full."""
_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


@pytest.fixture(scope="module")
def ledgers(server: str) -> Iterator[Sequence[Seen]]:
    """One of each size, the largest last."""
    with ExitStack() as stack:
        yield [stack.enter_context(seen(server, tokens=tokens)) for tokens in SIZES]


def test_a_page_is_as_full(ledgers: Sequence[Seen]) -> None:
    """Or it would be fast because it shows nothing."""
    counts = [
        {name: len(names(each.visitor.see(path))) for name, path in each.paths.items()}
        for each in ledgers
    ]
    expected = {name: ROWS.get(name, PER_PAGE) for name in ledgers[-1].paths}
    assert counts == [expected] * len(SIZES)


def took_ms(ledger: Seen, path: str) -> float:
    began = time.perf_counter()
    page = ledger.visitor.see(path)
    took = time.perf_counter() - began
    assert page.status_code == 200
    return took * 1000


def test_a_page_takes_as_long(ledgers: Sequence[Seen]) -> None:
    slower = {}
    for name in ledgers[-1].paths:
        rounds = [[took_ms(each, each.paths[name]) for each in ledgers] for _ in range(ROUNDS + 1)]
        *few, many = (median(times) for times in zip(*rounds[1:], strict=True))
        slower[name] = [many / each for each in few]
        ratios = ", ".join(f"{ratio:.2f}" for ratio in slower[name])
        print(f"{name}: {many:.1f} ms, of the smaller ledgers' {ratios}")
    too_slow = {name: ratios for name, ratios in slower.items() if max(ratios) > SLOWER_MAX}
    assert too_slow == {}


def planned(connection: psycopg.Connection, statement: str, given: Mapping[str, Any]) -> Any:
    """What the database does for a statement, by the plan that serves all parameters."""
    parameters = list(dict.fromkeys(_PARAMETER.findall(statement)))
    numbered = _PARAMETER.sub(lambda each: f"${parameters.index(each[1]) + 1}", statement)
    connection.execute(f"PREPARE asked AS {numbered}".encode())
    values = psycopg.ClientCursor(connection).mogrify(
        ", ".join(f"%({name})s" for name in parameters), given
    )
    ((found,),) = connection.execute(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE asked({values})".encode()
    ).fetchall()
    connection.execute("DEALLOCATE asked")
    return found[0]["Plan"]


def test_a_page_asks_three_times_and_reads_as_little(
    ledgers: Sequence[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, Any]] = []
    rows = PreparedReads.rows

    async def kept(self: PreparedReads, statement: str, parameters: Any) -> Any:
        asked.append((statement, parameters))
        return await rows(self, statement, parameters)

    monkeypatch.setattr(PreparedReads, "rows", kept)
    read: dict[str, list[float]] = {name: [] for name in ledgers[-1].paths}
    for each in ledgers:
        with psycopg.connect(each.service.database.app, autocommit=True) as connection:
            configure(connection, READING)
            for name, path in each.paths.items():
                statements = asked_for(each.service, each.session, path, asked)
                assert len(statements) <= STATEMENTS_MAX, name
                (lists, *_) = [one for one in statements if "views.scim_tokens" in str(one[0])]
                read[name].append(rows_read(planned(connection, *lists)))
    print(read)
    too_many = {name: rows for name, rows in read.items() if rows[-1] > min(rows) + PER_PAGE}
    assert too_many == {}
    of_new_addresses = {name for name in read if name.startswith("from a new address")}
    too_many = {name: rows for name, rows in read.items() if max(rows) > ROWS_MAX}
    assert too_many.keys() <= of_new_addresses


def test_its_first_paint(ledgers: Sequence[Seen]) -> None:
    """Last of all: the driver of the browser keeps a loop in this thread."""
    many = ledgers[-1]
    with static_copy(many.visitor.see(PATH), many.visitor) as copy, started() as browser:
        pages = [
            browser.new_context(base_url=url).new_page()
            for url in (copy, *(each.service.url for each in ledgers))
        ]
        for page, each in zip(pages[1:], ledgers, strict=True):
            sign_in(page, each.secret)
        rounds = [[first_paint_ms(page, PATH) for page in pages] for _ in range(PAINTS + 1)]
    paints = list(zip(*rounds[1:], strict=True))
    for name, times in zip(("static copy", *SIZES), paints, strict=True):
        print(f"{name}: {median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})")
    static, *few, of_many = (min(times) for times in paints)
    assert of_many <= STATIC_MAX * static
    assert of_many <= SLOWER_MAX * min(few)
