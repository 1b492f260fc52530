"""The chart of docs/benchmarks.md: what each proxy costs, the better of HAProxy and nginx being 1."""

from targets import TARGETS
from workloads import OURS, PEERS, SPLICED, TITLES

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
  .contrail-lb { fill: #1a7f5a } .contrail-lb-epoll { fill: #6fb99c }
  .haproxy { fill: #b4552d } .haproxy-splice { fill: #d9a288 } .nginx { fill: #4f6db8 }
  .value { font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 3px }
  .must { stroke: #cf222e; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #e6edf3 } .dim { fill: #9198a1 } .grid { stroke: #2b323b } .one { stroke: #9198a1 }
    .contrail-lb { fill: #3fb98a } .contrail-lb-epoll { fill: #2b7357 } .haproxy { fill: #d9794f } .haproxy-splice { fill: #8a4f36 }
    .nginx { fill: #7d99e0 } .value { stroke: #0d1117 } .must { stroke: #ff7b72 }
  }
"""
LEFT, WIDTH, RIGHT, TOP, BAR, GAP, MOST = 300, 560, 60, 74, 13, 12, 2.0
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


def draw(results):
    """The SVG, or nothing if nothing stands beside a peer."""
    found = list(groups(results))
    if not found:
        return ""
    height = TOP + sum(len(bars) * BAR + GAP for _, _, bars in found) + 44
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" role="img" aria-label="{TITLE}">',
           f"<style>{STYLE}</style>", '<rect class="paper" width="100%" height="100%"/>',
           f'<text x="16" y="24" font-size="15" font-weight="600">{TITLE}</text>', *_legend(found)]
    bottom = height - 40
    for tick in range(0, round(MOST * 4) + 1):
        x = _x(tick / 4)
        out.append(f'<line class="{"one" if tick == 4 else "grid"}" x1="{x:.0f}" y1="{TOP - 8}" x2="{x:.0f}" y2="{bottom}"/>'
                   f'<text class="dim" x="{x:.0f}" y="{bottom + 14}" text-anchor="middle">{tick / 4:.2f}</text>')
    out.append(f'<text class="dim" x="{LEFT + WIDTH / 2:.0f}" y="{bottom + 32}" text-anchor="middle">cost as a multiple of the better peer\'s; shorter is better</text>')
    y = TOP
    for label, must, bars in found:
        out.append(f'<text x="{LEFT - 10}" y="{y + len(bars) * BAR / 2 + 4:.0f}" text-anchor="end">{label}</text>')
        values = []
        for i, (proxy, ratio) in enumerate(bars):
            top, end, more = y + i * BAR, _x(ratio), " →" if ratio > MOST else ""
            out.append(f'<rect class="{proxy}" x="{LEFT}" y="{top}" width="{end - LEFT:.1f}" height="{BAR - 2}">'
                       f'<title>{TITLES.get(proxy, proxy)}</title></rect>')
            values.append(f'<text class="value" x="{end + 5:.0f}" y="{top + 10}">{ratio:.2f}{more}</text>')
        bottom_of_bars = y + len(bars) * BAR
        # The numbers last, or the line would strike them through.
        out += [f'<line class="must" x1="{_x(must):.0f}" y1="{y - 3}" x2="{_x(must):.0f}" y2="{bottom_of_bars + 1}"/>', *values]
        y = bottom_of_bars + GAP
    return "\n".join([*out, "</svg>"]) + "\n"


def _legend(found):
    shown = [proxy for proxy in ORDER if any(proxy == p for _, _, bars in found for p, _ in bars)]
    x = 16
    for proxy in shown:
        name = TITLES.get(proxy, proxy)
        yield f'<rect class="{proxy}" x="{x}" y="38" width="12" height="12"/><text x="{x + 17}" y="48">{name}</text>'
        x += 34 + 7 * len(name)
    yield f'<line class="must" x1="{x}" y1="37" x2="{x}" y2="51"/><text x="{x + 8}" y="48">must reach</text>'


def _x(ratio):
    return LEFT + WIDTH * max(0.0, min(MOST, ratio)) / MOST
