"""What has to be reached, and whether it was: one row for each figure, must and aim beside it."""

import dataclasses

import ratios
from workloads import OURS, PEERS, SPLICED, STEPS

NOISE = 1.05  # what "does not grow" leaves to chance


@dataclasses.dataclass(frozen=True)
class Target:
    text: str
    workload: str
    must: float
    aim: float | None
    key: str = "cpu_per_unit"
    against: tuple = PEERS
    more_is_better: bool = False  # told as work per CPU second


BETTER = "the better of HAProxy and nginx"
TARGETS = [
    Target(f"kept-alive small requests, 64 connections: CPU per request, against {BETTER}", "kept-alive", 1.0, 0.85),
    Target(f"a new connection per request: CPU per connection, against {BETTER}", "connection", 1.0, 0.85),
    Target("64 MiB bodies from the backend: CPU per byte, against the better of HAProxy (with and without splice) and nginx",
           "bulk", 0.85, 0.65, against=PEERS + SPLICED),
    Target("64 MiB bodies towards the backend: CPU per byte, against the better of HAProxy (with and without splice) and nginx",
           "upload", 0.85, 0.65, against=PEERS + SPLICED),
    Target(f"added latency, one connection, p50, against {BETTER}", "latency", 1.0, 0.8, "added_p50_us"),
    Target(f"added latency, one connection, p99, against {BETTER}", "latency", 1.0, 0.8, "added_p99_us"),
    Target("resident memory per idle connection, against HAProxy", "idle", 0.5, 0.35, "bytes_per_connection", ("haproxy",)),
    Target("whole TLS 1.3 handshakes per CPU second, against HAProxy", "tls-handshake", 1.0, 1.2, against=("haproxy",), more_is_better=True),
    Target("resumed TLS 1.3 connections per CPU second, against HAProxy", "tls-resumed", 1.0, 1.2, against=("haproxy",), more_is_better=True),
    Target("bytes over TLS 1.3 per CPU second, against HAProxy", "tls-bulk", 1.0, 1.2, against=("haproxy",), more_is_better=True),
]
SIZES = [("one service with 1,000 backends: CPU per connection, against 3 backends", "contrail-lb-1000"),
         ("256 services, the load on one of them: CPU per connection, against one service", "contrail-lb-256")]


def with_added_latency(samples):
    """Adds what each proxy adds to the percentiles of no proxy in the same round."""
    for one in samples:
        if one["workload"] == "latency" and one["proxy"] != "direct":
            [bare] = [s for s in samples if s["workload"] == "latency" and s["round"] == one["round"] and s["proxy"] == "direct"]
            one |= {f"added_{key}": one[key] - bare[key] for key in ("p50_us", "p99_us")}
    return samples


def rows(samples, idle):
    """Each target that was measured: text, must, aim, the measured value of each of our engines, and whether it was kept."""
    samples = samples + [one | {"workload": "idle", "round": 0} for one in idle]
    found = []
    for target in TARGETS:
        rounds = ratios.by_round(samples, target.workload, target.key)
        measured = {engine: ratio for engine in OURS if (ratio := ratios.against_best(rounds, engine, target.against)) is not None}
        if target.more_is_better:
            measured = {engine: 1 / ratio for engine, ratio in measured.items() if ratio}
        found.append(_row(target.text, target.must, target.aim, measured, target.more_is_better))
    for text, size in SIZES:
        ratio = ratios.against(ratios.by_round(samples, "scale-backends", "cpu_per_unit"), size, "contrail-lb-3")
        found.append(_row(text, 1.05, 1.0, {"contrail-lb": ratio} if ratio is not None else {}))
    found.append(_row("256 services, the load on all of them: growth over one service, against HAProxy's own growth", 1.05, 1.0,
                      {"contrail-lb": ratio} if (ratio := _growth_against_haproxy(samples)) is not None else {}))
    found.append(_row(f"CPU per request at {', '.join(f'{n:,}' for n in STEPS[1:])} connections, the most of them, against 1 connection", NOISE, None,
                      {engine: growth for engine in OURS if (growth := grows(samples, engine)) is not None}))
    return [row for row in found if row["measured"]]


def grows(samples, proxy):
    """The largest median ratio of CPU per request on many connections to that on one."""
    steps = {f"scale-{n}": ratios.by_round(samples, f"scale-{n}", "cpu_per_unit") for n in STEPS}
    first, *rest = steps.values()
    paired = [[{"one": a.get(proxy), "many": b.get(proxy)} for a, b in zip(first, more)] for more in rest]
    found = [ratio for pairs in paired if (ratio := ratios.against([p for p in pairs if None not in p.values()], "many", "one")) is not None]
    return max(found) if found else None


def _growth_against_haproxy(samples):
    rounds = ratios.by_round(samples, "scale-backends", "cpu_per_unit")
    grown = [{proxy: r[f"{proxy}-256-all"] / r[f"{proxy}-3"] for proxy in ("contrail-lb", "haproxy") if f"{proxy}-3" in r} for r in rounds]
    return ratios.against(grown, "contrail-lb", "haproxy")


def _row(text, must, aim, measured, more_is_better=False):
    def reached(value, bound):
        return round(value, 2) >= bound if more_is_better else round(value, 2) <= bound
    value = measured.get("contrail-lb")
    verdict = None if value is None else "no" if not reached(value, must) else "yes" if aim is None or not reached(value, aim) else "aim"
    sign = "≥" if more_is_better else "≤"
    return {"text": text, "must": f"{sign} {must:.2f}", "aim": f"{sign} {aim:.2f}" if aim is not None else "", "measured": measured,
            "verdict": verdict, "more_is_better": more_is_better}
