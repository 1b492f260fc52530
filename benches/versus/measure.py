"""Rounds of measurements: a load against a proxy, and what the CPU clocks said before and after."""

import resource
import sys
import time

import backends
import load
from workloads import WORKLOADS


def _clocks(proxy):
    """CPU seconds so far of the proxy (None without one), and of the proxy, its backends and all loads together."""
    own = proxy.cpu_seconds()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # loads that have ended; what still runs is not in it
    return own, (own or 0) + sum(b.cpu_seconds() for b in proxy.backends) + usage.ru_utime + usage.ru_stime


def sample(proxy, workload, seconds, programs):
    before, all_before = _clocks(proxy)
    result = load.run(proxy, workload, seconds, programs) | {"proxy": proxy.name, "workload": workload.name}
    after, all_after = _clocks(proxy)
    # Per request or per byte that was really carried; wrk counts partial bodies as bytes.
    amount = result["bytes" if workload.per == "byte" else "requests"]
    if amount == 0:
        raise RuntimeError(f"{workload.name}: nothing went through {proxy.name} ({result['errors']} errors)")
    if before is not None:
        result["cpu_per_unit"] = (after - before) / amount
    if proxy.backends:
        result["all_cpu_per_unit"] = (all_after - all_before) / amount
    return result


def steady(proxy, workload, seconds):
    """While every connection is there and busy: 2,000 of them cost as much to open as many thousand requests.

    The backend's own counters tell how many requests it were between the two looks at the clock.
    """
    [http, _] = proxy.backends
    elsewhere, _ = backends.counters(http)
    wrk, patience = load.start_wrk(proxy, workload, seconds + 1), time.monotonic() + 1
    while backends.counters(http)[0] < elsewhere + workload.connections and time.monotonic() < patience:
        time.sleep(0.02)
    (_, before), clock = backends.counters(http), proxy.cpu_seconds()
    time.sleep(seconds - 0.2)
    (_, after), used = backends.counters(http), proxy.cpu_seconds() - clock
    return load.result_of_wrk(wrk) | {"proxy": proxy.name, "workload": workload.name, "cpu_per_unit": used / max(after - before, 1)}


def pings(running, workload, seconds, programs):
    """One sample for each, all of the same time."""
    before = [proxy.cpu_seconds() for proxy in running]
    results = load.ping(running, seconds, programs)
    for proxy, clock, result in zip(running, before, results):
        if result["requests"] == 0:
            raise RuntimeError(f"{workload.name}: nothing went through {proxy.name}")
        result |= {"proxy": proxy.name, "workload": workload.name}
        if clock is not None:
            result["cpu_per_unit"] = (proxy.cpu_seconds() - clock) / result["requests"]
    return results


def rounds(running, workloads, options, programs):
    """All samples. The order of the proxies rotates from round to round."""
    samples, began = [], time.monotonic()
    for number in range(0 if options.quick else -1, options.rounds):
        warming_up = number < 0
        shift = max(number, 0) % len(running)
        for workload in workloads:
            asked = [proxy for proxy in running[shift:] + running[:shift] if proxy.name in workload.who]
            seconds = 1 if warming_up else options.seconds
            if workload.load == "ping":
                fresh = [] if warming_up else pings(asked, workload, seconds, programs)
            else:
                fresh = [steady(proxy, workload, seconds) if workload.steady else sample(proxy, workload, seconds, programs) for proxy in asked]
            samples += [] if warming_up else [one | {"round": number} for one in fresh]
            print(f"\r{'warming up' if warming_up else f'round {number + 1} of {options.rounds}'}: {workload.name:18}",
                  end="", file=sys.stderr, flush=True)
        print(f"\r{'warmed up' if warming_up else f'round {number + 1} of {options.rounds} done'} "
              f"after {time.monotonic() - began:.0f} s{'':18}", file=sys.stderr)
    return samples


def until(proxy, requests, seconds, programs):
    """Alternates the two small workloads until so many requests were answered; returns (answered, errors)."""
    answered = errors = number = 0
    while answered < requests:
        result = load.run(proxy, WORKLOADS[number % 2], seconds, programs)
        answered, errors, number = answered + result["requests"], errors + result["errors"], number + 1
        print(f"{answered} requests, {errors} errors", file=sys.stderr)
    return answered, errors
