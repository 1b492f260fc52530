"""The proxies, the backend behind them, and the children they run as.

Each proxy is configured to do the same job: round robin over three addresses, a TCP check every two seconds, two
threads (nginx: two workers, and no checks: it has none), no access log, time-outs that idle connections survive. On a
second port the same once more, behind TLS that the proxy ends.
"""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import time

LARGE_BODY = 64 * 1024 * 1024
DEADLINE = 15


class Running:
    """A started proxy: where it listens and what it costs."""

    def __init__(self, name, directory, address, process=None):
        self.name, self.directory, self.address, self.process = name, directory, address, process

    @property
    def url(self):
        return "http://{}:{}".format(*self.address)

    @property
    def tls_url(self):
        return "https://{}:{}".format(*tls_address(self.address))

    def _pids(self):
        """The child and its own children (nginx's workers)."""
        pids = [self.process.pid]
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
        return pids

    def cpu_seconds(self):
        """CPU time of all threads so far, at the scheduler's resolution; None without a process."""
        if self.process is None:
            return None
        schedstats = (s for pid in self._pids() for s in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(s.read_text().split()[0]) for s in schedstats) / 1e9

    def resident_bytes(self):
        statuses = (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self._pids())
        return sum(1024 * int(re.search(r"VmRSS:\s*(\d+)", status)[1]) for status in statuses)


def tls_address(address):
    """Where the same proxy speaks TLS."""
    return address[0], address[1] + 443


@contextlib.contextmanager
def claimed_addresses(count):
    """Loopback addresses nobody else uses: the claim is an abstract socket's name, as in the integration tests."""
    with contextlib.ExitStack() as stack:
        host, addresses = os.getpid() * 64, []
        while len(addresses) < count:
            host += 1
            address = f"127.{1 + (host >> 16) % 254}.{(host >> 8) % 256}.{1 + host % 254}"
            claim = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                claim.bind(f"\0contrail-lb-test-{address}")
            except OSError:
                continue
            addresses.append(address)
        yield addresses


@contextlib.contextmanager
def child(name, directory, argv):
    """A child that is ended by its id when the block ends; its output is shown only if it ends by itself."""
    log = directory / f"{name}.log"
    with open(log, "wb") as out:
        # Ended with this process even if that is killed.
        command = ["setpriv", "--pdeathsig", "TERM", "--", *map(str, argv)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_it_answers(running, log):
    """Until the address serves the backend's small body. The backend's own start is waited for in the same way."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            with socket.create_connection(running.address, timeout=2) as connection:
                connection.sendall(b"GET /small HTTP/1.0\r\n\r\n")
                if connection.recv(12).endswith(b"200"):
                    return
        except OSError:
            pass
        ended = running.process is not None and running.process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"{running.name} does not serve:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)


@contextlib.contextmanager
def _proxy(name, directory, address, config_file, config, argv):
    (directory / config_file).write_text(config)
    with child(name, directory, argv) as process:
        running = Running(name, directory, address, process)
        wait_until_it_answers(running, directory / f"{name}.log")
        yield running


def _nginx(name, directory, body):
    user = "user root;" if os.geteuid() == 0 else ""
    prefix = directory / name
    prefix.mkdir()
    temp = "".join(f"{kind}_temp_path {prefix}/{kind};" for kind in
                   ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")) if "http {" in body else ""
    config = f"""{user}
daemon off; worker_processes 2; pid {prefix}/pid; error_log stderr warn;
{body.replace("http {", "http { " + temp)}
"""
    return config, ["nginx", "-p", prefix, "-e", "stderr", "-c", directory / f"{name}.conf"]


@contextlib.contextmanager
def backend(directory, addresses):
    """nginx that answers /small from its configuration and /large from a file."""
    with open(directory / "large", "wb") as large:
        large.truncate(LARGE_BODY)
        os.posix_fallocate(large.fileno(), 0, LARGE_BODY)
    listen = "".join("listen {}:{} backlog=4096; ".format(*a) for a in addresses)
    config, argv = _nginx("backend", directory, f"""
events {{ worker_connections 9000; }}
http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_timeout 600s; keepalive_requests 1000000000;
  server {{ {listen} root {directory}; location = /small {{ return 200 "an answer of a few dozen bytes, no more\\n"; }} }} }}
""")
    with _proxy("backend", directory, addresses[0], "backend.conf", config, argv) as running:
        yield running


@contextlib.contextmanager
def direct(directory, _address, backends, _binary):
    yield Running("direct", directory, backends[0])


def contrail_lb(directory, address, backends, binary):
    servers = "".join('[[service.backend]]\naddress = "{}:{}"\n'.format(*b) for b in backends)
    config = f"""[global]
threads = 2
[global.log]
level = "warn"
[admin]
socket = "{directory}/admin.sock"
listen = ""
"""
    timeouts = 'timeouts = { connect = "5s", client = "600s", server = "600s" }'
    for name, (ip, port), tls in [
        ("versus", address, ""),
        ("versus-tls", tls_address(address), f'tls = {{ certificate = "{directory}/server.pem", key = "{directory}/server.key" }}'),
    ]:
        config += f"""[[service]]
name = "{name}"
listen = ["{ip}:{port}"]
{timeouts}
check = {{ kind = "tcp", interval = "2s" }}
{tls}
{servers}"""
    argv = [binary.resolve(), "run", "--config", directory / "contrail-lb.toml"]
    return _proxy("contrail-lb", directory, address, "contrail-lb.toml", config, argv)


def haproxy(directory, address, backends, _binary):
    tls = tls_address(address)
    servers = "".join(f"  server s{i} {a}:{p} check inter 2s\n" for i, (a, p) in enumerate(backends))
    config = f"""global
  nbthread 2
  maxconn 9000
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen versus
  bind {address[0]}:{address[1]} backlog 4096
  balance roundrobin
{servers}
listen versus-tls
  bind {tls[0]}:{tls[1]} backlog 4096 ssl crt {directory}/both.pem
  balance roundrobin
{servers}"""
    argv = ["haproxy", "-db", "-f", directory / "haproxy.cfg"]
    return _proxy("haproxy", directory, address, "haproxy.cfg", config, argv)


def nginx(directory, address, backends, _binary):
    tls = tls_address(address)
    servers = "".join("server {}:{}; ".format(*b) for b in backends)
    modules = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    load = f"load_module {modules};" if modules.exists() else ""
    config, argv = _nginx("nginx", directory, f"""
events {{ worker_connections 9000; }}
stream {{ access_log off; upstream versus {{ {servers} }}
  server {{ listen {address[0]}:{address[1]} backlog=4096; proxy_pass versus; proxy_timeout 600s; proxy_connect_timeout 5s; }}
  server {{ listen {tls[0]}:{tls[1]} backlog=4096 ssl; proxy_pass versus; proxy_timeout 600s; proxy_connect_timeout 5s;
    ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.key; ssl_protocols TLSv1.2 TLSv1.3; }} }}
""")
    return _proxy("nginx", directory, address, "nginx.conf", load + config, argv)


PROXIES = {"direct": direct, "contrail-lb": contrail_lb, "haproxy": haproxy, "nginx": nginx}
