"""The machine: what it is, and whether it has other things to do."""

import datetime
import os
import platform
import re
import subprocess
import time

IDLE_ENOUGH = 0.1


def busy():
    """What to say of a machine that was busy for a second before anything of ours ran; nothing if it was idle."""
    before = _ticks()
    time.sleep(1)
    total, idle = (after - earlier for after, earlier in zip(_ticks(), before))
    share = 1 - idle / max(total, 1)
    return [] if share < IDLE_ENOUGH else [
        f"The machine was busy with other things when this began ({share:.0%} of its CPU time): "
        "rates and latencies, p99 above all, tell of those too."]


def _ticks():
    """(all, idle) so far, over all CPUs. Stolen time is neither ours nor idle."""
    with open("/proc/stat", encoding="utf-8") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def described():
    """What to write beside every figure."""
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        model = re.search(r"model name\s*:\s*(.*)", cpuinfo.read())
    return {
        "date": datetime.date.today().isoformat(), "cpus": os.cpu_count(), "kernel": platform.release(),
        "memory": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "cpu": model[1] if model else platform.machine(), "versions": [_version("haproxy"), _version("nginx")],
    }


def _version(program):
    out = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
    return f"{program} {re.search(r'[0-9]+[.][0-9]+[.][0-9]+', out.stdout + out.stderr)[0]}"
