"""The backends: nginx for wrk, and a sink of our own for what wrk cannot send."""

import contextlib
import os
import pathlib
import urllib.request

import children

LARGE_BODY = 64 * 1024 * 1024
HTTP_PORT, SINK_PORT, PORTS = 20000, 21000, 3
# A thread a connection: more than any workload has connections, with the checks of all proxies.
SINK_THREADS = 48


def addresses(ip):
    """The addresses of each kind of backend."""
    return {"http": [(ip, HTTP_PORT + i) for i in range(PORTS)], "sink": [(ip, SINK_PORT + i) for i in range(PORTS)]}


def nginx_command(name, directory, body):
    """Writes nginx's configuration; returns what starts it."""
    user = "user root;" if os.geteuid() == 0 else ""
    prefix = directory / name
    prefix.mkdir()
    (directory / f"{name}.conf").write_text(f"""{user}
daemon off; worker_processes 2; pid {prefix}/pid; error_log stderr warn;
{body}
""")
    return ["nginx", "-p", prefix, "-e", "stderr", "-c", directory / f"{name}.conf"]


@contextlib.contextmanager
def started(name, directory, ip, programs, inside=()):
    """Both backends on `ip`, as a list. nginx answers /small from its configuration, /large from a file, /status with its counters."""
    large = directory / "large"
    if not large.exists():
        with open(large, "wb") as body:
            os.posix_fallocate(body.fileno(), 0, LARGE_BODY)
    at = addresses(ip)
    listen = "".join("listen {}:{} backlog=4096; ".format(*a) for a in at["http"])
    temp = "".join(f"{kind}_temp_path {directory / name}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    argv = nginx_command(name, directory, f"""
events {{ worker_connections 9000; }}
http {{ {temp}access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_timeout 600s; keepalive_requests 1000000000;
  server {{ {listen} root {directory}; location = /small {{ return 200 "an answer of a few dozen bytes, no more\\n"; }}
    location = /status {{ stub_status; }} }} }}
""")
    sink = [programs / "sink", ip, SINK_PORT, PORTS, SINK_THREADS]
    with children.served(name, directory, {("http", False): at["http"][0]}, [*inside, *argv], inside=inside) as http, \
            children.served(f"{name}-sink", directory, {("sink", False): at["sink"][0]}, [*inside, *sink], inside=inside) as own:
        yield [http, own]


def counters(http):
    """What the started nginx has counted so far: (connections now, requests ever)."""
    with urllib.request.urlopen(http.url() + "/status", timeout=10) as answer:
        active, _, counts, _ = answer.read().decode().splitlines()
    return int(active.split()[-1]), int(counts.split()[-1])


@contextlib.contextmanager
def everywhere(name, directory, programs, threads):
    """A sink on every loopback address, on a port that was free on all of them. Yields the child and the port."""
    log = pathlib.Path(directory / f"{name}.log")
    with children.child(name, directory, [programs / "sink", "0.0.0.0", 0, 1, threads]) as process:
        port = children.until(lambda: log.read_text().strip(), name, process, log)
        yield process, int(port)
