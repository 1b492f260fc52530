"""From samples to tables."""

from statistics import median

import machine
import ratios
import targets
from workloads import OURS, PEERS, SCALED, SPLICED, STEPS, TITLES, WORKLOADS

VERDICTS = {None: "", "no": "**no**", "yes": "yes", "aim": "yes, and the aim"}


def summarise(samples, idle, verified, notes, options):
    targets.with_added_latency(samples)
    rows = [_row(workload, proxy, samples) for workload in WORKLOADS
            for proxy in dict.fromkeys(s["proxy"] for s in sorted(samples, key=_position) if s["workload"] == workload.name)]
    results = {"machine": machine.described(), "rounds": options.rounds, "seconds": options.seconds, "notes": notes,
               "targets": targets.rows(samples, idle), "rows": rows, "idle": idle, "verified": verified,
               "growth": {proxy: targets.grows(samples, proxy) for proxy in (*OURS, *PEERS)}}
    return results | {"missed": _missed(results)}


def _position(one):
    order = ("direct", "dnat", *OURS, "haproxy", *SPLICED, "nginx", *SCALED)
    return order.index(one["proxy"])


def _row(workload, proxy, samples):
    own = [s for s in samples if s["workload"] == workload.name and s["proxy"] == proxy]
    row = {"workload": workload.name, "proxy": proxy, "errors": sum(s["errors"] for s in own),
           "rate": median((s["bytes"] if workload.per == "byte" else s["requests"]) / s["seconds"] for s in own)}
    for key in ("p50_us", "p99_us", "added_p50_us", "added_p99_us", "cpu_per_unit", "all_cpu_per_unit"):
        if all(key in s for s in own):
            row[key] = median(s[key] for s in own)
    for key in ("cpu_per_unit", "added_p50_us", "added_p99_us"):
        rounds = ratios.by_round(samples, workload.name, key)
        row[f"{key}_of"] = {other: ratio for other in (*PEERS, *SPLICED, "contrail-lb-3", "haproxy-3")
                            if (ratio := ratios.against(rounds, proxy, other)) is not None}
    return row


def _missed(results):
    """What missed, in words."""
    out = [f"{row['text']}: {row['measured']['contrail-lb']:.2f}, must be {row['must']}" for row in results["targets"] if row["verdict"] == "no"]
    out += [f"{row['workload']}: {row['errors']} errors through {row['proxy']}" for row in results["rows"]
            if row["proxy"].startswith("contrail-lb") and row["errors"]]
    out += [f"bytes through {one['proxy']}{' over TLS' if one['tls'] else ''}: {one['wrong']}" for one in results["verified"] if one["wrong"]]
    return out


def _title(proxy):
    return TITLES.get(proxy, proxy)


def _number(row, key, scale=1.0, digits=1):
    return f"{row[key] * scale:.{digits}f}" if key in row else "–"


def _of(row, other, key="cpu_per_unit"):
    ratio = row[f"{key}_of"].get(other)
    return "–" if ratio is None else f"{ratio:.2f}"


def tables(results):
    """(title, rows of cells) of each table; the first row is the head."""
    if results["targets"]:
        engines = [engine for engine in OURS if any(engine in row["measured"] for row in results["targets"])]
        body = [[row["text"], row["must"], row["aim"], *(f"{row['measured'][e]:.2f}" if e in row["measured"] else "–" for e in engines),
                 VERDICTS[row["verdict"]]] for row in results["targets"]]
        yield "Must, aim, and what was measured", [["", "must", "aim", *(engines if len(engines) > 1 else ["measured"]), "kept"], *body]
    for workload in WORKLOADS:
        rows = [r for r in results["rows"] if r["workload"] == workload.name]
        if rows and workload.called == workload.name:
            kind = {"latency": _latency, "scale-backends": _sizes}.get(workload.name, _costs)
            yield workload.title, kind(workload, rows)
    steps = {n: {r["proxy"]: r for r in results["rows"] if r["workload"] == f"scale-{n}"} for n in STEPS}
    if steps[1]:
        body = [[_title(p), *(_number(steps[n][p], "cpu_per_unit", 1e6) for n in STEPS), f"{results['growth'][p]:.2f}",
                 str(sum(steps[n][p]["errors"] for n in STEPS))] for p in steps[1]]
        yield "CPU µs per small request, by the number of kept-alive connections", [
            ["", *(f"{n:,}" for n in STEPS), "most, against 1", "errors"], *body]
    if results["idle"]:
        cells = [[_title(r["proxy"]), f"{r['connections']:,}", f"{r['bytes_per_connection']:.0f}"] for r in results["idle"]]
        yield "Idle relayed connections", [["", "connections", "resident bytes each"], *cells]
    if results["verified"]:
        cells = [[_title(r["proxy"]), "yes" if r["tls"] else "no", f"{r['sent']:,}", f"{r['received']:,}", r["wrong"] or "nothing"]
                 for r in results["verified"]]
        yield "Every byte compared, by counts and CRC-32 at both ends", [["", "TLS", "bytes sent", "bytes received", "wrong"], *cells]


def _costs(workload, rows):
    bulk = workload.per == "byte"
    scale, digits = (2**30, 3) if bulk else (1e6, 1)
    per = "GiB" if bulk else "request"
    spliced = any("haproxy-splice" in r["cpu_per_unit_of"] for r in rows)
    timed, whole = any(r["p50_us"] for r in rows), any("all_cpu_per_unit" in r for r in rows)
    head = ["", "GiB/s" if bulk else "requests/s", *(["p50 ms", "p99 ms"] if timed else []), f"CPU {'s' if bulk else 'µs'} per {per}",
            "of HAProxy's", *(["with splice"] if spliced else []), "of nginx's", *(["CPU of all"] if whole else []), "errors"]
    body = []
    for r in rows:
        body.append([
            _title(r["proxy"]), _number(r, "rate", 2**-30 if bulk else 1, 2 if bulk else 0),
            *([_number(r, "p50_us", 1e-3, 2), _number(r, "p99_us", 1e-3, 2)] if timed else []),
            _number(r, "cpu_per_unit", scale, digits), _of(r, "haproxy"), *([_of(r, "haproxy-splice")] if spliced else []), _of(r, "nginx"),
            *([_number(r, "all_cpu_per_unit", scale, digits)] if whole else []), str(r["errors"])])
    return [head, *body]


def _latency(_workload, rows):
    head = ["", "p50 µs", "p99 µs", "added p50", "of HAProxy's", "of nginx's", "added p99", "of HAProxy's", "of nginx's",
            "CPU µs per request", "errors"]
    return [head, *([
        _title(r["proxy"]), _number(r, "p50_us"), _number(r, "p99_us"), *(cell for key in ("added_p50_us", "added_p99_us") for cell in (
            _number(r, key), _of(r, "haproxy", key), _of(r, "nginx", key))), _number(r, "cpu_per_unit", 1e6), str(r["errors"])] for r in rows)]


def _sizes(_workload, rows):
    head = ["", "connections/s", "CPU µs per connection", "of its own with 3 backends", "errors"]
    return [head, *([_title(r["proxy"]), _number(r, "rate", 1, 0), _number(r, "cpu_per_unit", 1e6),
                     _of(r, "haproxy-3" if r["proxy"].startswith("haproxy") else "contrail-lb-3"), str(r["errors"])] for r in rows)]


def text(results):
    out = [heading(results)]
    for title, rows in tables(results):
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        out += ["", title]
        out += ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) for r in rows]
    out += ["", *results["notes"], *(f"missed: {m}" for m in results["missed"])]
    return "\n".join(out).replace("**", "")


def heading(results):
    about = results["machine"]
    return (f"{about['date']}, {about['cpus']} × {about['cpu']}, {about['memory']} GiB, Linux {about['kernel']}; "
            f"{', '.join(about['versions'])}; {results['rounds']} rounds of {results['seconds']} s.")
