"""What the runs amount to: a table and a chart for docs/convergence.md."""

import math
import os
import platform

BEGIN, END = "<!-- convergence: begin -->", "<!-- convergence: end -->"


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def summarise(samples, scenarios):
    rows = []
    for scenario in scenarios:
        for (system, router, name), runs in samples.items():
            if name != scenario.name or not runs:
                continue
            row = {"scenario": name, "text": scenario.text, "system": system, "router": router, "runs": len(runs)}
            for key in ["seconds", "back"]:
                values = [run[key] for run in runs if key in run]
                if values:
                    row[key] = {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}
            for key in ["answered", "failed", "changes"]:
                if key in runs[0]:
                    row[key] = sum(run[key] for run in runs)
            row["bound"] = bound_text(scenario)
            row["kept"] = is_kept(scenario, row)
            rows.append(row)
    return rows


def bound_text(scenario):
    if scenario.bound is None:
        return ""
    if scenario.bound:
        return f"p99 ≤ {seconds(scenario.bound)}"
    return "0 changes" if scenario.name == "rolling-backends" else "0 failed"


def is_kept(scenario, row):
    if scenario.bound is None or row["system"] != "contrail-lb":
        return None
    if scenario.bound:
        return row["seconds"]["p99"] <= scenario.bound
    return row["changes" if scenario.name == "rolling-backends" else "failed"] == 0


def table(rows):
    lines = ["| what happens | who | router | runs | out of the FIB p50 | p99 | bound | kept | back p50 | failed of requests |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        took, back = row.get("seconds"), row.get("back")
        failed = f"{row['failed']} of {row['answered']}" if "failed" in row else ""
        if "changes" in row:
            failed += f"; {row['changes']} changes of the FIB"
        kept = {None: "", True: "yes", False: "**no**"}[row["kept"]]
        lines.append(f"| {row['text']} | {row['system']} | {row['router']} | {row['runs']} "
                     f"| {seconds(took['p50']) if took else ''} | {seconds(took['p99']) if took else ''} "
                     f"| {row['bound'] if row['system'] == 'contrail-lb' else ''} | {kept} "
                     f"| {seconds(back['p50']) if back else ''} | {failed} |")
    return "\n".join(lines)


COLOURS = {"contrail-lb": "#1a7f5a", "HAProxy + BIRD": "#b4552d"}


def chart(rows):
    """Bars on a logarithmic axis from 1 ms to 20 s: dark to the median, light to p99."""
    rows = [row for row in rows if "seconds" in row]
    left, width, height, top = 430, 520, 22, 46
    def x(value):
        return left + width * max(0.0, min(1.0, math.log10(max(value, 1e-3) / 1e-3) / math.log10(20e3)))
    total = top + height * len(rows) + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 110} {total}" '
           'font-family="system-ui, sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="#fff"/>',
           '<text x="12" y="22" font-size="15" font-weight="600">From the event to the router\'s forwarding table: '
           'median (dark) and p99 (light), logarithmic</text>']
    for tick in [0.001, 0.01, 0.1, 1, 10]:
        out.append(f'<line x1="{x(tick):.0f}" y1="{top - 8}" x2="{x(tick):.0f}" y2="{total - 28}" stroke="#ddd"/>'
                   f'<text x="{x(tick):.0f}" y="{total - 12}" text-anchor="middle" fill="#555">{seconds(tick)}</text>')
    for i, row in enumerate(rows):
        y, colour = top + i * height, COLOURS.get(row["system"], "#555")
        label = f"{row['scenario']} · {row['system']} · {row['router']}"
        took = row["seconds"]
        out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{label}</text>'
                   f'<rect x="{left}" y="{y}" width="{x(took["p99"]) - left:.1f}" height="15" fill="{colour}" opacity="0.35"/>'
                   f'<rect x="{left}" y="{y}" width="{x(took["p50"]) - left:.1f}" height="15" fill="{colour}"/>'
                   f'<text x="{x(took["p99"]) + 6:.0f}" y="{y + 12}" fill="#333">{seconds(took["p50"])} / {seconds(took["p99"])}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def machine():
    return f"{os.cpu_count()} cores, Linux {platform.release()}"


def into_documents(docs, rows):
    text = (docs / "convergence.md").read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    body = f"\n{table(rows)}\n\nMeasured on {machine()}.\n"
    (docs / "convergence.md").write_text(before + BEGIN + body + END + after)
    (docs / "convergence.svg").write_text(chart(rows))
