"""Tables for people and lines for programs."""

import json
import pathlib
import statistics


def median(values) -> float:
    return statistics.median(values)


def spread(values) -> str:
    """Median and, in brackets, the smallest and the largest."""
    values = list(values)
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Report:
    """Collects what the figures found, and prints it as it comes."""

    def __init__(self):
        self.text, self.lines = [], []

    def say(self, text: str = "") -> None:
        print(text, flush=True)
        self.text.append(text)

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        self.say("| " + " | ".join(head) + " |")
        self.say("|" + "---|" * len(head))
        for row in rows:
            self.say("| " + " | ".join(row) + " |")
        self.say()

    def record(self, figure: str, **facts) -> None:
        self.lines.append({"figure": figure, **facts})

    def judge(self, figure: str, what: str, values, limit: float, least: bool = False) -> None:
        """Holds the median of `values` against a limit: at most so much, or at least."""
        values = list(values)
        found = median(values)
        met = found >= limit if least else found <= limit
        self.record(figure, what=what, median=found, values=values, limit=limit, least=least, met=met)
        sign = "≥" if least else "≤"
        self.say(f"- {what}: **{spread(values)}**, target {sign} {number(limit)}: {'met' if met else 'MISSED'}")

    def save(self, directory: pathlib.Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "results.md").write_text("\n".join(self.text) + "\n")
        (directory / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))
