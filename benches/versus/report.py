"""From samples to tables: medians, and ratios taken within each round against HAProxy and nginx."""

import datetime
import os
import platform
import re
import subprocess
from statistics import median

import measure

BEGIN, END = "<!-- results: begin (written by benches/versus/run --markdown) -->", "<!-- results: end -->"

# What contrail-lb has to reach: CPU as a multiple of HAProxy's, and bytes per idle connection.
CPU_TARGETS = {"kept-alive": 1.05, "connection": 1.05, "bulk": 0.8, "tls-handshake": 1.0, "tls-resumed": 1.0, "tls-bulk": 1.0}
IDLE_TARGET = 2048


def summarise(samples, idle, options):
    rows = []
    for workload in measure.WORKLOADS:
        mine = [s for s in samples if s["workload"] == workload.name]
        for proxy in dict.fromkeys(s["proxy"] for s in mine):
            rows.append(_row(workload, proxy, mine))
    return {"machine": _machine(), "rounds": options.rounds, "seconds": options.seconds, "rows": rows, "idle": idle}


def _row(workload, proxy, samples):
    by_round = {}
    for s in samples:
        by_round.setdefault(s["round"], {})[s["proxy"]] = s
    own = [r[proxy] for r in by_round.values()]
    row = {
        "workload": workload.name, "per": workload.per, "proxy": proxy,
        "rate": median((s["bytes"] if workload.per == "byte" else s["requests"]) / s["seconds"] for s in own),
        "p50_us": median(s["p50_us"] for s in own), "p99_us": median(s["p99_us"] for s in own),
        "errors": sum(s["errors"] for s in own),
    }
    if "cpu_per_unit" in own[0]:
        row["cpu_per_unit"] = median(s["cpu_per_unit"] for s in own)
        for other in ("haproxy", "nginx"):
            ratios = [r[proxy]["cpu_per_unit"] / r[other]["cpu_per_unit"] for r in by_round.values() if other in r]
            if ratios:
                row[f"cpu_vs_{other}"] = median(ratios)
    return row


def missed(results):
    """The targets that were missed, in words."""
    out = []
    for row in results["rows"]:
        target = CPU_TARGETS[row["workload"]]
        if row["proxy"] == "contrail-lb" and row.get("cpu_vs_haproxy", 0) > target:
            out.append(f"{row['workload']}: CPU {row['cpu_vs_haproxy']:.2f} of HAProxy's, target {target}")
        if row["proxy"] == "contrail-lb" and row["errors"]:
            out.append(f"{row['workload']}: {row['errors']} errors")
    for row in results["idle"]:
        if row["proxy"] == "contrail-lb" and row["bytes_per_connection"] > IDLE_TARGET:
            out.append(f"idle: {row['bytes_per_connection']:.0f} bytes per connection, target {IDLE_TARGET}")
    return out


def tables(results):
    """(title, rows of cells) of each table; the first row is the head."""
    for workload in measure.WORKLOADS:
        rows = [r for r in results["rows"] if r["workload"] == workload.name]
        if not rows:
            continue
        bulk = workload.per == "byte"
        head = ["", "GiB/s" if bulk else "requests/s", "p50 ms", "p99 ms",
                "CPU s per GiB" if bulk else "CPU µs per request", "of HAProxy's", "of nginx's", "errors"]
        yield workload.title, [head, *(_cells(r, bulk) for r in rows)]
    if results["idle"]:
        cells = [[r["proxy"], str(r["connections"]), f"{r['bytes_per_connection']:.0f}"] for r in results["idle"]]
        yield "Idle relayed connections", [["", "connections", "resident bytes each"], *cells]


def _cells(row, bulk):
    def ratio(key):
        return f"{row[key]:.2f}" if key in row else "–"
    rate = f"{row['rate'] / 2**30:.2f}" if bulk else f"{row['rate']:.0f}"
    cpu = "–"
    if "cpu_per_unit" in row:
        cpu = f"{row['cpu_per_unit'] * 2**30:.3f}" if bulk else f"{row['cpu_per_unit'] * 1e6:.1f}"
    return [row["proxy"], rate, f"{row['p50_us'] / 1e3:.2f}", f"{row['p99_us'] / 1e3:.2f}", cpu,
            ratio("cpu_vs_haproxy"), ratio("cpu_vs_nginx"), str(row["errors"])]


def text(results):
    out = []
    for title, rows in tables(results):
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        out += ["", title]
        out += ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) for r in rows]
    out += ["", *(f"missed: {m}" for m in missed(results))]
    return "\n".join(out)


def into_document(path, results):
    """Replaces what is between the markers of docs/benchmarks.md."""
    machine = results["machine"]
    lines = [BEGIN, f"{machine['date']}, {machine['cpus']} × {machine['cpu']}, Linux {machine['kernel']}; "
             f"{', '.join(machine['versions'])}; {results['rounds']} rounds of {results['seconds']} s.", ""]
    for title, rows in tables(results):
        head, *body = rows
        lines += [f"### {title}", "", _line(head), _line(["---"] + ["---:"] * (len(head) - 1)), *map(_line, body), ""]
    document = path.read_text()
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    fresh, count = re.subn(pattern, lambda _: "\n".join([*lines, END]), document, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{path}: expected one pair of markers, found {count}")
    path.write_text(fresh)


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def _machine():
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        model = re.search(r"model name\s*:\s*(.*)", cpuinfo.read())
    return {
        "date": datetime.date.today().isoformat(), "cpus": os.cpu_count(), "kernel": platform.release(),
        "cpu": model[1] if model else platform.machine(), "versions": [_version("haproxy"), _version("nginx")],
    }


def _version(program):
    out = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
    return f"{program} {re.search(r'[0-9]+[.][0-9]+[.][0-9]+', out.stdout + out.stderr)[0]}"
