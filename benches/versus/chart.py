"""The chart of docs/benchmarks.md: what each proxy costs beside its peers, and all that is used beside using no proxy."""

from targets import TARGETS
from workloads import CEILING, OURS, SPLICED, TITLES, WORKLOADS

TITLE = "What each proxy costs: the better of HAProxy and nginx is 1.00 (memory and TLS: HAProxy)"
LABELS = {
    ("kept-alive", "cpu_per_unit"): "CPU per request, 64 kept-alive connections", ("connection", "cpu_per_unit"): "CPU per new connection",
    ("bulk", "cpu_per_unit"): "CPU per byte, from the backend", ("upload", "cpu_per_unit"): "CPU per byte, towards the backend",
    ("latency", "added_p50_us"): "added latency, p50", ("latency", "added_p99_us"): "added latency, p99",
    ("idle", "bytes_per_connection"): "memory per idle connection", ("tls-handshake", "cpu_per_unit"): "CPU per whole TLS handshake",
    ("tls-resumed", "cpu_per_unit"): "CPU per resumed TLS connection", ("tls-bulk", "cpu_per_unit"): "CPU per byte over TLS",
}
STYLE = """
  svg { color-scheme: light dark; font: 12px system-ui, sans-serif; }
  .paper { fill: #ffffff } text { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d8dee4 } .one { stroke: #59636e }
  .direct { fill: #8c959f } .dnat { fill: #57606a } .contrail-lb { fill: #1a7f5a } .contrail-lb-epoll { fill: #6fb99c }
  .haproxy { fill: #b4552d } .haproxy-splice { fill: #d9a288 } .nginx { fill: #4f6db8 }
  .value { font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 3px }
  .must { stroke: #cf222e; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 } .grid { stroke: #2b323b } .one { stroke: #9198a1 }
    .direct { fill: #6e7781 } .dnat { fill: #afb8c1 } .contrail-lb { fill: #3fb98a } .contrail-lb-epoll { fill: #2b7357 }
    .haproxy { fill: #d9794f } .haproxy-splice { fill: #8a4f36 } .nginx { fill: #7d99e0 } .value { stroke: #0d1117 } .must { stroke: #ff7b72 }
  }
"""
LEFT, WIDTH, RIGHT, TOP, BAR, GAP = 300, 560, 60, 62, 13, 12
ORDER = (*OURS, "haproxy", *SPLICED, "nginx")


def groups(results):
    """(label, must, [(proxy, multiple of the better peer)]) of each figure that was measured beside a peer."""
    for target in TARGETS:
        costs = {row["proxy"]: row[f"{target.key}_of"] for row in results["rows"] if row["workload"] == target.workload}
        if target.workload == "idle":
            used = {row["proxy"]: row[target.key] for row in results["idle"]}
            costs = {proxy: {peer: used[proxy] / used[peer] for peer in target.against if peer in used} for proxy in used}
        # Better is who does better against us, as in the table: the same medians, so the same figures.
        ours = next((costs[proxy] for proxy in ORDER if costs.get(proxy)), {})
        peers = [peer for peer in target.against if peer in ours]
        if peers:
            best = max(peers, key=ours.get)
            bars = [(proxy, costs[proxy][best]) for proxy in ORDER if best in costs.get(proxy, {})]
            yield LABELS[target.workload, target.key], 1 / target.must if target.more_is_better else target.must, bars


def whole(results):
    """The same for the CPU time of load, proxy and backend together, as multiples of that without a proxy. Nothing has to be reached."""
    for workload in WORKLOADS:
        costs = {row["proxy"]: row["all_cpu_per_unit"] for row in results["rows"]
                 if row["workload"] == workload.name and "all_cpu_per_unit" in row}
        if "direct" in costs:
            yield LABELS[workload.name, "cpu_per_unit"], None, [(p, costs[p] / costs["direct"]) for p in CEILING + ORDER if p in costs]


def draw(results):
    """The SVG, or nothing if nothing stands beside a peer."""
    panels = [(TITLE, "cost as a multiple of the better peer's; shorter is better", 2, list(groups(results))),
              ("CPU time of load, proxy and backend together: no proxy is 1.00", "as a multiple of that without a proxy", 4, list(whole(results)))]
    y, out = TOP, []
    if not panels[0][3]:
        return ""
    for title, axis, most, found in panels:
        drawn, y = _panel(title, axis, most, found, y) if found else ([], y)
        out += drawn
    shown = {proxy for _, _, _, found in panels for _, _, bars in found for proxy, _ in bars}
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {y}" role="img" aria-label="{TITLE}">',
        f"<style>{STYLE}</style>", '<rect class="paper" width="100%" height="100%"/>', *_legend(shown), *out, "</svg>"]) + "\n"


def _panel(title, axis, most, found, y):
    """What it draws, and where the next one begins."""
    def x(ratio):
        return LEFT + WIDTH * max(0.0, min(most, ratio)) / most
    out, y = [f'<text x="16" y="{y}" font-size="15" font-weight="600">{title}</text>'], y + 22
    bottom = y + sum(len(bars) * BAR + GAP for _, _, bars in found)
    for tick in range(9):
        ratio = most * tick / 8
        out.append(f'<line class="{"one" if ratio == 1 else "grid"}" x1="{x(ratio):.0f}" y1="{y - 8}" x2="{x(ratio):.0f}" y2="{bottom}"/>'
                   f'<text class="dim" x="{x(ratio):.0f}" y="{bottom + 14}" text-anchor="middle">{ratio:.2f}</text>')
    out.append(f'<text class="dim" x="{LEFT + WIDTH / 2:.0f}" y="{bottom + 32}" text-anchor="middle">{axis}</text>')
    for label, must, bars in found:
        out.append(f'<text x="{LEFT - 10}" y="{y + len(bars) * BAR / 2 + 4:.0f}" text-anchor="end">{label}</text>')
        values = []
        for i, (proxy, ratio) in enumerate(bars):
            top, end, more = y + i * BAR, x(ratio), " →" if ratio > most else ""
            out.append(f'<rect class="{proxy}" x="{LEFT}" y="{top}" width="{end - LEFT:.1f}" height="{BAR - 2}">'
                       f'<title>{TITLES.get(proxy, proxy)}</title></rect>')
            values.append(f'<text class="value" x="{end + 5:.0f}" y="{top + 10}">{ratio:.2f}{more}</text>')
        y += len(bars) * BAR
        if must is not None:
            out.append(f'<line class="must" x1="{x(must):.0f}" y1="{y - len(bars) * BAR - 3}" x2="{x(must):.0f}" y2="{y + 1}"/>')
        out += values  # last, or the line would strike them through
        y += GAP
    return out, bottom + 72


def _legend(shown):
    x = 16
    for proxy in CEILING + ORDER:
        if proxy in shown:
            name = TITLES.get(proxy, proxy)
            yield f'<rect class="{proxy}" x="{x}" y="16" width="12" height="12"/><text x="{x + 17}" y="26">{name}</text>'
            x += 34 + 7 * len(name)
    yield f'<line class="must" x1="{x}" y1="15" x2="{x}" y2="29"/><text x="{x + 8}" y="26">must reach</text>'
