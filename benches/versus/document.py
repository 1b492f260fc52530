"""Writes the tables into docs/benchmarks.md, and the chart beside it."""

import re

import chart
import report

BEGIN, END = "<!-- results: begin (written by benches/versus/run --markdown) -->", "<!-- results: end -->"


def write(docs, results):
    """Replaces what is between the markers of docs/benchmarks.md."""
    lines = [BEGIN, report.heading(results), ""]
    for note in results["notes"]:
        lines += [note, ""]
    drawn = chart.draw(results)
    if drawn:
        (docs / "benchmarks.svg").write_text(drawn)
        lines += [f"![{chart.TITLE}](benchmarks.svg)", ""]
    for title, rows in report.tables(results):
        head, *body = rows
        lines += [f"### {title}", "", _line(head), _line(["---"] + ["---:"] * (len(head) - 1)), *map(_line, body), ""]
    path = docs / "benchmarks.md"
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    fresh, count = re.subn(pattern, lambda _: "\n".join([*lines, END]), path.read_text(), flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{path}: expected one pair of markers, found {count}")
    path.write_text(fresh)


def _line(cells):
    return "| " + " | ".join(cells) + " |"
