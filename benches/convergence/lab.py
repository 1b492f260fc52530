"""The network: a client, a router, two load balancer hosts and a host of backends, a network namespace each.

    client 10.98.0.2 ── router ──┬── lb1 10.98.1.2
                                 ├── lb2 10.98.2.2
                                 └── backends 10.98.9.2

Only BGP tells the router where the VIP is. Everything that is started is ended by its own id.
"""

import ctypes
import os
import signal
import subprocess
import time

VIP = "10.84.13.100"
PORT = 8082
LB_AS, ROUTER_AS = 64512, 64500
BACKENDS = [("10.98.9.2", 9101 + i) for i in range(3)]
HOSTS = {"client": "10.98.0", "lb1": "10.98.1", "lb2": "10.98.2", "backends": "10.98.9"}
CLONE_NEWNET = 0x40000000


def run(*argv, check=True):
    return subprocess.run(argv, check=check, capture_output=True, text=True).stdout


def wait(what, within, condition):
    """Polls until the condition holds; says what did not come to be."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise TimeoutError(f"not within {within} s: {what}")


class Child:
    """A process in a namespace; ended with its value."""

    def __init__(self, log, argv, namespace=None):
        self.argv, self.namespace, self.log = argv, namespace, log
        enter = ["ip", "netns", "exec", namespace] if namespace else []
        with open(log, "ab") as out:
            self.process = subprocess.Popen(enter + argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, patience=0.0):
        self.signal(signal.SIGCONT)
        if patience:
            self.signal(signal.SIGTERM)
            try:
                return self.process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
        self.signal(signal.SIGKILL)
        return self.process.wait()


class Network:
    def __init__(self, tag):
        self.names = {role: f"{tag}-{role}" for role in [*HOSTS, "router"]}

    def __enter__(self):
        for name in self.names.values():
            run("ip", "netns", "add", name)
            self.ip_of(name, "link", "set", "lo", "up")
        router = self.names["router"]
        # Hashed from the packet itself, as a router does. Policy 1 takes over the hash of the client's own socket, which is in the
        # same kernel here and is a new one with every retransmission: a client that is not answered would change its host.
        for setting in ["net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=3",
                        "net.ipv4.fib_multipath_hash_fields=0x37"]:
            run("ip", "netns", "exec", router, "sysctl", "-qw", setting)
        for role, net in HOSTS.items():
            name = self.names[role]
            run("ip", "link", "add", role, "netns", router, "type", "veth", "peer", "name", "up0", "netns", name)
            self.ip_of(router, "addr", "add", f"{net}.1/24", "dev", role)
            self.ip_of(name, "addr", "add", f"{net}.2/24", "dev", "up0")
            self.ip_of(router, "link", "set", role, "up")
            self.ip_of(name, "link", "set", "up0", "up")
            self.ip_of(name, "route", "add", "default", "via", f"{net}.1")
        return self

    def __exit__(self, *_):
        for name in self.names.values():
            run("ip", "netns", "del", name, check=False)

    @staticmethod
    def ip_of(namespace, *argv):
        return run("ip", "-n", namespace, *argv)

    def plug(self, host, state):
        """Pulls the host's cable or puts it back: the router sees the carrier go, as with a direct link."""
        name = self.names[host]
        self.ip_of(name, "link", "set", "up0", state)
        if state == "up":
            self.ip_of(name, "route", "replace", "default", "via", f"{HOSTS[host]}.1")


def enter(namespace):
    """Moves the calling thread into a namespace."""
    with open(f"/var/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)


class Backends:
    """Three HTTP servers, a process group each, so that one can be killed or frozen."""

    def __init__(self, network, directory):
        self.network, self.directory = network, directory
        self.children = [None] * len(BACKENDS)

    def start(self, indices=range(len(BACKENDS))):
        for i in indices:
            folder = self.directory / f"backend-{i}"
            folder.mkdir(exist_ok=True)
            address, port = BACKENDS[i]
            (folder / "nginx.conf").write_text(
                f"daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log /dev/null;\n"
                "events { worker_connections 4096; }\n"
                f"http {{ access_log off; server {{ listen {address}:{port} backlog=4096; return 200 ok; }} }}\n")
            self.children[i] = Child(folder / "log", ["nginx", "-p", str(folder), "-c", "nginx.conf"],
                                     self.network.names["backends"])

    def signal(self, number, indices=range(len(BACKENDS))):
        for i in indices:
            self.children[i].signal(number)

    def kill(self, indices=range(len(BACKENDS))):
        self.signal(signal.SIGKILL, indices)
        for i in indices:
            self.children[i].process.wait()

    def end(self):
        for child in self.children:
            if child:
                child.end()
