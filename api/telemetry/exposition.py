"""Prometheus' text format 0.0.4, by hand: names and label values are ours, nothing is escaped."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from time import time

from api.telemetry.catalogue import COUNTED, FIRST_CELLS, Metric, Type

Samples = Mapping[tuple[str, ...], float]
"""Values by the values of the labels."""


def counted(sums: Sequence[int]) -> Iterator[str]:
    """The lines of what the workers counted. sums: of `Pages`."""
    for metric in COUNTED:
        yield from _head(metric.name, metric.type, metric.help)
        for values, cell in FIRST_CELLS[metric.name].items():
            if metric.type == "histogram":
                yield from _histogram(metric, values, sums[cell : cell + metric.cells])
            else:
                value = _age_s(sums[cell]) if metric.is_age else sums[cell]
                yield f"{metric.name}{_labels(metric.labels, values)} {value}"


def gauge(name: str, help_: str, labels: Sequence[str], samples: Samples) -> Iterator[str]:
    """The lines of one gauge."""
    yield from _head(name, "gauge", help_)
    for values, value in samples.items():
        yield f"{name}{_labels(labels, values)} {value}"


def _head(name: str, type_: Type, help_: str) -> Iterator[str]:
    yield f"# HELP {name} {help_}"
    yield f"# TYPE {name} {type_}"


def _age_s(since: int) -> int:
    return max(0, int(time()) - since) if since else 0


def _histogram(metric: Metric, values: tuple[str, ...], cells: Sequence[int]) -> Iterator[str]:
    *counts, total = cells
    names, bounds = (*metric.labels, "le"), [f"{bound / metric.per:g}" for bound in metric.bounds]
    upto = list(accumulate(counts))
    for bound, count in zip([*bounds, "+Inf"], upto, strict=True):
        yield f"{metric.name}_bucket{_labels(names, (*values, bound))} {count}"
    labels = _labels(metric.labels, values)
    yield f"{metric.name}_sum{labels} {total / metric.per}"
    yield f"{metric.name}_count{labels} {upto[-1]}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{value}"' for name, value in zip(names, values, strict=True))
    return f"{{{','.join(pairs)}}}"
