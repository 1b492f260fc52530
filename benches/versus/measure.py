"""One measurement: wrk against a proxy, and what the proxy's CPU clock said before and after."""

import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

RESULT_SCRIPT = pathlib.Path(__file__).with_name("result.lua")


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    path: str
    connections: int
    headers: tuple = ()
    per: str = "request"
    tls: bool = False
    resumes: bool = True


WORKLOADS = [
    Workload("kept-alive", "Small requests on 64 kept-alive connections", "/small", 64),
    Workload("connection", "A new connection per request, 64 at a time", "/small", 64, ("Connection: close",)),
    Workload("bulk", "64 MiB bodies on 8 kept-alive connections", "/large", 8, per="byte"),
    Workload("tls-handshake", "A new TLS connection per request, 16 at a time, each with a whole handshake", "/small", 16,
             tls=True, resumes=False),
    Workload("tls-resumed", "A new TLS connection per request, 64 at a time, each resumes a session", "/small", 64,
             ("Connection: close",), tls=True),
    Workload("tls-bulk", "64 MiB bodies on 8 kept-alive TLS connections", "/large", 8, per="byte", tls=True),
]


def wrk(proxy, workload, seconds):
    """Runs wrk; returns requests, bytes, errors and seconds. An answer other than 2xx or 3xx is an error."""
    if not workload.resumes:
        return handshakes(proxy, workload, seconds)
    argv = ["setpriv", "--pdeathsig", "KILL", "--", "wrk", "-t2", f"-c{workload.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", RESULT_SCRIPT]
    for header in workload.headers:
        argv += ["-H", header]
    url = (proxy.tls_url if workload.tls else proxy.url) + workload.path
    environment = os.environ | {"OPENSSL_CONF": str(proxy.directory / "openssl.cnf")} if workload.tls else None
    out = subprocess.run([*map(str, argv), url], check=True, capture_output=True, text=True, env=environment)
    return json.loads(out.stdout.splitlines()[-1])


def handshakes(proxy, workload, seconds):
    """The same with `openssl s_time`, one process a connection: wrk resumes its sessions. It tells no latencies."""
    host = proxy.tls_url.removeprefix("https://")
    argv = ["setpriv", "--pdeathsig", "KILL", "--", "openssl", "s_time", "-new", "-connect", host, "-www", workload.path,
            "-time", str(seconds)]
    environment = os.environ | {"OPENSSL_CONF": str(proxy.directory / "openssl.cnf")}
    began = time.monotonic()
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
                for _ in range(workload.connections)]
    outputs = [child.communicate()[0] for child in children]
    counts = [re.search(r"(\d+) connections in \d+ real seconds", output) for output in outputs]
    errors = sum(child.returncode != 0 or count is None for child, count in zip(children, counts))
    return {"requests": max(sum(int(count[1]) for count in counts if count), 1), "bytes": 0, "errors": errors,
            "seconds": time.monotonic() - began, "p50_us": 0, "p99_us": 0}


def serves(proxy, workload):
    """Without a proxy there is no TLS: it is the proxies' to end."""
    return not workload.tls or proxy.process is not None


def sample(proxy, workload, seconds):
    before = proxy.cpu_seconds()
    result = wrk(proxy, workload, seconds)
    result |= {"proxy": proxy.name, "workload": workload.name}
    if before is not None:
        # Per request or per byte that was really carried; wrk counts partial bodies as bytes.
        amount = result["bytes"] if workload.per == "byte" else result["requests"]
        result["cpu_per_unit"] = (proxy.cpu_seconds() - before) / amount
    return result


def rounds(running, workloads, count, seconds):
    """All samples. The order of the proxies rotates from round to round."""
    for proxy in running:
        for workload in workloads:
            if serves(proxy, workload):
                wrk(proxy, workload, 1)
    samples = []
    for number in range(count):
        shift = number % len(running)
        for workload in workloads:
            for proxy in filter(lambda p: serves(p, workload), running[shift:] + running[:shift]):
                samples.append(sample(proxy, workload, seconds) | {"round": number})
        print(f"round {number + 1} of {count} done", file=sys.stderr)
    return samples


def until(proxy, requests, seconds):
    """Alternates the two small workloads until so many requests were answered; returns (answered, errors)."""
    answered = errors = number = 0
    while answered < requests:
        result = wrk(proxy, WORKLOADS[number % 2], seconds)
        answered, errors, number = answered + result["requests"], errors + result["errors"], number + 1
        print(f"{answered} requests, {errors} errors", file=sys.stderr)
    return answered, errors


def idle_memory(proxy, count):
    """Resident bytes per connection that has relayed one request and is idle now."""
    for connection in _relayed(proxy, 200):
        connection.close()
    before = _settled(proxy)
    connections = _relayed(proxy, count)
    per_connection = (_settled(proxy) - before) / count
    for connection in connections:
        connection.close()
    return {"proxy": proxy.name, "connections": count, "bytes_per_connection": per_connection}


def _relayed(proxy, count):
    connections = []
    for _ in range(count):
        connection = socket.create_connection(proxy.address, timeout=10)
        connection.sendall(b"GET /small HTTP/1.1\r\nHost: versus\r\n\r\n")
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{proxy.name} does not serve any more")
        connections.append(connection)
    return connections


def _settled(proxy):
    """Resident bytes once they have stayed the same for half a second."""
    last, since = proxy.resident_bytes(), time.monotonic()
    while time.monotonic() < since + 0.5:
        time.sleep(0.05)
        now = proxy.resident_bytes()
        if now != last:
            last, since = now, time.monotonic()
    return last
