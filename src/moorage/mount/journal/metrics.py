"""What do programs that watch over a machine learn of a mount, and in which form?

Prometheus text format (exposition 0.0.4): families of samples, each with a name, labels and a number. Whoever has
numbers is a source, asked when somebody looks: nothing is counted for a mount that nobody asks about, and nothing is
kept here.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

_log = logging.getLogger(__name__)

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    """Of a histogram: `_bucket`, `_sum` or `_count`."""


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one name."""

    name: str
    kind: str
    """`COUNTER`, `GAUGE` or `HISTOGRAM`."""
    help: str
    samples: tuple[Sample, ...]

    def lines(self) -> Iterator[str]:
        """In text format."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for sample in self.samples:
            labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
            braces = f"{{{labels}}}" if labels else ""
            yield f"{self.name}{sample.suffix}{braces} {_number(sample.value)}"


Source: TypeAlias = Callable[[], Iterable[Family]]


def counter(name: str, help: str, *samples: Sample | float) -> Family:  # noqa: A002 - what the format calls it
    """A number that only grows, until the server starts anew."""
    return Family(name, COUNTER, help, _samples(samples))


def gauge(name: str, help: str, *samples: Sample | float) -> Family:  # noqa: A002 - what the format calls it
    """A number that goes up and down."""
    return Family(name, GAUGE, help, _samples(samples))


class Metrics:
    """Everything that one mount has to say. Thread-safe."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._sources: list[Source] = []
        self._lock = threading.Lock()

    def add(self, source: Source) -> None:
        """Ask `source`, too, from now on. It may be asked by any thread, at any time, and should be quick."""
        with self._lock:
            self._sources.append(source)

    def text(self) -> str:
        """All of it. A source that fails is left out, and the log says so."""
        with self._lock:
            sources = list(self._sources)
        lines: list[str] = []
        for source in sources:
            try:
                lines.extend(line for family in list(source()) for line in family.lines())
            except Exception:  # noqa: BLE001 - the others may be well
                _log.exception("metrics are left out")
        return "".join(f"{line}\n" for line in lines)


def _samples(given: Iterable[Sample | float]) -> tuple[Sample, ...]:
    return tuple(one if isinstance(one, Sample) else Sample(one) for one in given)


def _escaped(value: str) -> str:
    shown = value.encode("utf-8", "backslashreplace").decode("utf-8")  # a path may have bytes that are no text
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
