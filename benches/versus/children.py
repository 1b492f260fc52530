"""Processes that are measured: how they are started, ended, waited for, and what they have cost so far."""

import contextlib
import os
import pathlib
import re
import socket
import struct
import subprocess
import time

DEADLINE = 15


class Running:
    """Something that serves: where it listens, the process it is, and the backends behind it.

    `endpoints` maps (what is behind it, whether TLS is spoken) to an address; `inside` is what a command is put after to
    run in the network namespace of those addresses, `namespace` the id of a process there. `ports`: over how many ports from
    the sink's on our own client spreads its connections.
    """

    def __init__(self, name, directory, endpoints, process=None, backends=(), inside=(), namespace=None, ports=1):
        self.name, self.directory, self.endpoints, self.process = name, directory, endpoints, process
        self.backends, self.inside, self.namespace, self.ports = backends, inside, namespace, ports

    def spread(self, ports):
        """The same process under another name, with the connections over so many of its ports."""
        return Running(f"{self.name}-all", self.directory, self.endpoints, self.process, self.backends, ports=ports)

    def url(self, tls=False):
        return ("https" if tls else "http") + "://{}:{}".format(*self.endpoints["http", tls])

    def target(self, tls=False):
        """How our own client is told the way to the sink behind this."""
        return "{}:{}".format(*self.endpoints["sink", tls]) + (f"@{self.namespace}" if self.namespace else "")

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


def until(condition, name, process, log):
    """Waits for a true value and returns it; says what the child wrote if it ends or takes too long."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        if (process is not None and process.poll() is not None) or time.monotonic() > deadline:
            raise RuntimeError(f"{name} does not serve:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)
    return value


def answers(running):
    """Whether what is behind every address without TLS answers through it."""
    return all(_answers(what, address, running.inside) for (what, tls), address in running.endpoints.items() if not tls)


def _answers(what, address, inside):
    order = struct.pack("=QQQ", 0, 0, 0) if what == "sink" else b"GET /small HTTP/1.0\r\n\r\n"
    if inside:
        # Python 3.11 cannot enter a namespace, a shell that was started there is in it.
        octets = "".join(f"\\x{octet:02x}" for octet in order)
        talk = f"exec 3<>/dev/tcp/$0/$1 && printf '{octets}' >&3 && head -c 12 <&3 | wc -c"
        out = subprocess.run([*inside, "timeout", "2", "bash", "-c", talk, *map(str, address)], capture_output=True, text=True)
        return out.stdout.strip() == "12"
    try:
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(order)
            answer = connection.recv(12)
            return len(answer) == 12 and (what == "sink" or answer.endswith(b"200"))
    except OSError:
        return False


@contextlib.contextmanager
def served(name, directory, endpoints, argv, **more):
    """The child as `Running`, once it answers."""
    with child(name, directory, argv) as process:
        running = Running(name, directory, endpoints, process, **more)
        until(lambda: answers(running), name, process, directory / f"{name}.log")
        yield running
