"""The text of `GET /metrics`, as Prometheus' own parser reads it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Exposed:
    """What stands there; ours are named without `team_runs_`."""

    def __init__(self, text: bytes) -> None:
        self.text = text.decode()
        families = text_string_to_metric_families(self.text)
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of all series that have these labels; there must be one."""
        found = [sample.value for sample in self.named(name) if labels.items() <= _labels(sample)]
        assert found, f"{name} {labels}"
        return sum(found)

    def named(self, name: str) -> Iterator[Sample]:
        return (each for each in self.samples if each.name.removeprefix("team_runs_") == name)

    @property
    def series(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        """All there are, whatever their values."""
        return {(sample.name, frozenset(_labels(sample))) for sample in self.samples}


def _labels(sample: Sample) -> set[tuple[str, str]]:
    return set(sample.labels.items())
