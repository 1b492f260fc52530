"""Ratios between two proxies: taken within each round, their median over the rounds."""

from statistics import median


def by_round(samples, workload, key):
    """{round: {proxy: value}} of one figure."""
    rounds = {}
    for one in samples:
        if one["workload"] == workload and key in one:
            rounds.setdefault(one["round"], {})[one["proxy"]] = one[key]
    return list(rounds.values())


def against(rounds, proxy, other):
    """Median of proxy/other; None if they never met."""
    met = [r[proxy] / r[other] for r in rounds if r.get(proxy) is not None and r.get(other, 0) > 0]
    return median(met) if met else None


def against_best(rounds, proxy, others):
    """The ratio to whichever of the others does best against this one; figures are costs, so less is better."""
    found = [ratio for other in others if (ratio := against(rounds, proxy, other)) is not None]
    return max(found) if found else None


def typical(rounds, proxy):
    values = [r[proxy] for r in rounds if proxy in r]
    return median(values) if values else None
