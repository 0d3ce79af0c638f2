"""`/metrics` as a scraper reads it."""

from collections.abc import Iterable, Mapping

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


def families(text: str) -> list[Metric]:
    """The metrics of an answer; a counter is named with its `_total`."""
    found = list(text_string_to_metric_families(text))
    for family in found:
        if family.type == "counter":
            family.name += "_total"
    return found


class Scrape:
    """The samples of one answer, by name and labels."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200
        self.text = answer.text
        self.families = families(answer.text)
        self.values: Mapping[tuple[str, frozenset[tuple[str, str]]], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """That of one series."""
        return self.values[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """That of all series with these labels, at least."""
        asked = set(labels.items())
        return sum(
            value for (each, has), value in self.values.items() if each == name and has >= asked
        )


def label_values(metrics: Iterable[Metric]) -> dict[str, set[str]]:
    """All values of each label."""
    found: dict[str, set[str]] = {}
    for metric in metrics:
        for sample in metric.samples:
            for label, value in sample.labels.items():
                found.setdefault(label, set()).add(value)
    return found
