"""A strict reader of Prometheus's text format, version 0.0.4, written from its description.

https://prometheus.io/docs/instrumenting/exposition_formats/ and, for names, .../practices/naming/
"""

import re
from dataclasses import dataclass, field

Labels = frozenset[tuple[str, str]]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|(?=\}))')
_SAMPLE = re.compile(r"(?P<name>[^{ ]+)(?P<labels>\{.*\})? (?P<value>\S+)")
_ESCAPE = re.compile(r"\\(.)")
_TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


@dataclass
class Metric:
    """What stands between one HELP line and the next; the numbers by their labels."""

    name: str
    help: str
    type: str = ""
    samples: dict[Labels, float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        return self.samples[frozenset(labels.items())]


def parse(text: str) -> dict[str, Metric]:
    """Return the metrics by name; AssertionError for anything that is not as it must be."""
    assert text.endswith("\n"), "the last line has no end"
    found: dict[str, Metric] = {}
    metric: Metric | None = None
    for line in text.removesuffix("\n").split("\n"):
        match line.split(" ", 3):
            case ["#", "HELP", name, *rest]:
                assert _NAME.fullmatch(name), line
                assert name not in found, f"{name} comes twice"
                metric = found[name] = Metric(name, _unescaped("".join(rest), "\\n"))
            case ["#", "TYPE", name, kind]:
                assert metric is not None, line
                assert (metric.name, metric.type, metric.samples) == (name, "", {}), line
                assert kind in _TYPES, line
                metric.type = kind
            case _:
                assert metric is not None, line
                assert metric.type, f"{line} comes before its type"
                _read_sample(metric, line)
    for each in found.values():
        assert each.help, f"{each.name} is not explained"
        assert (each.type == "counter") == each.name.endswith("_total"), each.name
    return found


def _read_sample(metric: Metric, line: str) -> None:
    sample = _SAMPLE.fullmatch(line)
    assert sample, line
    assert sample["name"] == metric.name, f"{line} is not in its group"
    labels = _read_labels(sample["labels"] or "{}")
    assert labels not in metric.samples, f"{line} comes twice"
    value = float(sample["value"])
    assert value >= 0, line
    metric.samples[labels] = value


def _read_labels(text: str) -> Labels:
    labels: dict[str, str] = {}
    at = 1
    while at < len(text) - 1:
        label = _LABEL.match(text, at)
        assert label, f"no label at {text[at:]}"
        assert label[1] not in labels, text
        labels[label[1]] = _unescaped(label[2], '\\n"')
        at = label.end()
    assert text[at:] == "}", text
    return frozenset(labels.items())


def _unescaped(text: str, may_be_escaped: str) -> str:
    def plain(escape: re.Match[str]) -> str:
        assert escape[1] in may_be_escaped, text
        return "\n" if escape[1] == "n" else escape[1]

    return _ESCAPE.sub(plain, text)
