"""The load: wrk, openssl, and a client of our own, each told as one result of the same shape."""

import json
import os
import pathlib
import re
import subprocess
import time

import backends

HERE = pathlib.Path(__file__).parent


def compile_programs(directory):
    """Our own client and its backend, from the sources beside this file."""
    for program in ("load", "sink"):
        subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", directory / program, HERE / f"{program}.c"], check=True)
    return directory


def run(proxy, workload, seconds, programs):
    """One measurement's load. Returns requests, bytes, errors, seconds, and percentiles in microseconds where they are told."""
    if workload.load == "wrk":
        return result_of_wrk(start_wrk(proxy, workload, seconds))
    if workload.load == "handshakes":
        return _handshakes(proxy, workload, seconds)
    middle = backends.LARGE_BODY if workload.load == "upload" else proxy.ports
    return _own(programs, [workload.load, seconds, workload.connections, middle, proxy.target()])[0]


def ping(running, seconds, programs):
    """All of them in turn, block by block, from one process: whatever disturbs one of them disturbs all. One result for each."""
    return _own(programs, ["ping", seconds, *(proxy.target() for proxy in running)])


def _killed_with_us(*argv):
    return ["setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)]


def _own(programs, arguments):
    out = subprocess.run(_killed_with_us(programs / "load", *arguments), check=True, capture_output=True, text=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def start_wrk(proxy, workload, seconds):
    """Only starts it."""
    argv = ["wrk", f"-t{min(2, workload.connections)}", f"-c{workload.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "result.lua"]
    for header in workload.headers:
        argv += ["-H", header]
    command = [*proxy.inside, *_killed_with_us(*argv), proxy.url(workload.tls) + workload.path]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment(proxy, workload))


def result_of_wrk(process):
    """Waits for its end. An answer other than 2xx or 3xx is an error."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"wrk ended with {process.returncode}")
    return json.loads(output.splitlines()[-1])


def _environment(proxy, workload):
    return os.environ | {"OPENSSL_CONF": str(proxy.directory / "openssl.cnf")} if workload.tls else None


def _handshakes(proxy, workload, seconds):
    """With `openssl s_time`, one process a connection: wrk resumes its sessions. It tells no latencies."""
    host = "{}:{}".format(*proxy.endpoints["http", True])
    argv = _killed_with_us("openssl", "s_time", "-new", "-connect", host, "-www", workload.path, "-time", seconds)
    began = time.monotonic()
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment(proxy, workload))
               for _ in range(workload.connections)]
    outputs = [client.communicate()[0] for client in clients]
    counts = [re.search(r"(\d+) connections in \d+ real seconds", output) for output in outputs]
    errors = sum(client.returncode != 0 or count is None for client, count in zip(clients, counts))
    return {"requests": sum(int(count[1]) for count in counts if count), "bytes": 0, "errors": errors,
            "seconds": time.monotonic() - began, "p50_us": 0, "p99_us": 0}
