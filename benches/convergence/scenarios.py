"""What is done to the lab, and how long the router's forwarding table takes to follow. Each begins and ends with both hosts
in the table."""

import re
import signal
import subprocess
import time

from lab import BACKENDS, HOSTS, PORT, VIP, wait

BOTH = frozenset(f"{HOSTS[lb]}.2" for lb in ["lb1", "lb2"])
ONE, OTHER = f"{HOSTS['lb1']}.2", f"{HOSTS['lb2']}.2"
LONG = 60.0


class Load:
    """wrk in the client's namespace, a connection for each request."""

    def __init__(self, network, connections=4):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", network.names["client"], "wrk", "-t1", f"-c{connections}", "-d600s", "--timeout", "10s",
             "-H", "Connection: close", f"http://{VIP}:{PORT}/"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(0.3)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self):
        """(requests, failed)."""
        self.process.send_signal(signal.SIGINT)
        text = self.process.communicate(timeout=30)[0]
        answered = int(re.search(r"(\d+) requests in", text).group(1))
        errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        return answered, sum(map(int, errors.groups() if errors else ())) + int(other.group(1) if other else 0)


class Lab:
    """The parts of one lab, all up."""

    def __init__(self, network, fib, backends, system):
        self.network, self.fib, self.backends, self.system = network, fib, backends, system

    def settle(self):
        """Both hosts in the table, and quiet for a moment."""
        wait("both hosts in the forwarding table", LONG, lambda: self.fib.hops() == BOTH)
        time.sleep(0.2)

    def timed(self, act, condition):
        start = time.monotonic()
        act()
        at = self.fib.when(start, LONG, condition)
        if at is None:
            raise TimeoutError(f"the forwarding table still has {set(self.fib.hops())}")
        return at - start


def is_gone(hops):
    return not hops


def is_alone(hops):
    return hops == {OTHER}


def backends_killed(lab):
    with Load(lab.network):
        took = lab.timed(lambda: lab.backends.signal(signal.SIGKILL), is_gone)
    return restart_backends(lab, took)


def backends_killed_idle(lab):
    return restart_backends(lab, lab.timed(lambda: lab.backends.signal(signal.SIGKILL), is_gone))


def restart_backends(lab, took):
    lab.backends.kill()
    back = lab.timed(lab.backends.start, lambda hops: hops == BOTH)
    lab.settle()
    return {"seconds": took, "back": back}


def backends_hang(lab):
    with Load(lab.network):
        took = lab.timed(lambda: lab.backends.signal(signal.SIGSTOP), is_gone)
    back = lab.timed(lambda: lab.backends.signal(signal.SIGCONT), lambda hops: hops == BOTH)
    lab.settle()
    return {"seconds": took, "back": back}


def host_killed(lab):
    with Load(lab.network):
        took = lab.timed(lambda: lab.system.kill("lb1"), is_alone)
    wait("lb1 ended", LONG, lambda: lab.system.gone("lb1"))
    lab.system.clean("lb1")
    back = lab.timed(lambda: lab.system.start("lb1"), lambda hops: hops == BOTH)
    lab.settle()
    return {"seconds": took, "back": back}


def host_frozen(lab):
    took = lab.timed(lambda: lab.system.freeze("lb1"), is_alone)
    back = lab.timed(lambda: lab.system.freeze("lb1", signal.SIGCONT), lambda hops: hops == BOTH)
    lab.settle()
    return {"seconds": took, "back": back}


def host_unplugged(lab):
    took = lab.timed(lambda: lab.network.plug("lb1", "down"), is_alone)
    back = lab.timed(lambda: lab.network.plug("lb1", "up"), lambda hops: hops == BOTH)
    lab.settle()
    return {"seconds": took, "back": back}


def drain(lab):
    with Load(lab.network) as load:
        took = lab.timed(lambda: lab.system.drain("lb1"), is_alone)
        time.sleep(2.0)
        answered, failed = load.end()
    back = lab.timed(lambda: lab.system.undrain("lb1"), lambda hops: hops == BOTH)
    lab.settle()
    return {"seconds": took, "back": back, "answered": answered, "failed": failed}


def sigterm(lab):
    with Load(lab.network) as load:
        took = lab.timed(lambda: lab.system.terminate("lb1"), is_alone)
        wait("lb1 ended", LONG, lambda: lab.system.gone("lb1"))
        answered, failed = load.end()
    back = lab.timed(lambda: lab.system.start("lb1"), lambda hops: hops == BOTH)
    lab.settle()
    return {"seconds": took, "back": back, "answered": answered, "failed": failed}


def rolling_backends(lab):
    """Every backend restarted, one after the other, each up again before the next; how often the table changed."""
    start = time.monotonic()
    with Load(lab.network) as load:
        for i in range(len(BACKENDS)):
            lab.backends.kill([i])
            time.sleep(1.0)
            lab.backends.start([i])
            time.sleep(6.0)  # two good checks, 2 s apart, and some
        answered, failed = load.end()
    return {"changes": lab.fib.changes_since(start), "answered": answered, "failed": failed}


def rolling_hosts(lab):
    """Every host drained, stopped, started: one after the other, under load."""
    with Load(lab.network) as load:
        for lb in ["lb1", "lb2"]:
            rest = BOTH - {f"{HOSTS[lb]}.2"}
            lab.timed(lambda: lab.system.drain(lb), lambda hops: hops == rest)
            time.sleep(3.0)
            lab.system.terminate(lb)
            wait(f"{lb} ended", LONG, lambda: lab.system.gone(lb))
            lab.timed(lambda: lab.system.start(lb), lambda hops: hops == BOTH)
            time.sleep(1.0)
        answered, failed = load.end()
    lab.settle()
    return {"answered": answered, "failed": failed}


class Scenario:
    def __init__(self, name, text, act, bfd=False, check="", bound=None, runs=None, only=None, fellows=False):
        self.name, self.text, self.act, self.bfd, self.check = name, text, act, bfd, check
        self.bound, self.runs, self.only, self.fellows = bound, runs, only, fellows


# A process that is frozen still has its connections accepted by the kernel: only an answer tells.
HTTP = 'check = { kind = "http" }'
QUICK = 'check = { interval = "200ms", timeout = "200ms", fall = 2, rise = 2 }'
SCENARIOS = [
    Scenario("backends-killed", "every backend killed, live traffic, default checks", backends_killed, bound=0.25),
    Scenario("backends-killed-idle", "every backend killed, no traffic, checks every 200 ms, fall 2",
             backends_killed_idle, check=QUICK, bound=0.6, only="contrail-lb"),
    Scenario("backends-hang", "every backend frozen, live traffic, HTTP checks at default times", backends_hang, check=HTTP),
    Scenario("host-killed", "load balancer killed with SIGKILL", host_killed, bound=0.15),
    Scenario("host-frozen-bfd", "load balancer frozen, BFD 3 × 300 ms", host_frozen, bfd=True, bound=1.1),
    Scenario("host-frozen", "load balancer frozen, no BFD (hold time 9 s)", host_frozen, runs=5),
    Scenario("host-unplugged-bfd", "cable pulled, BFD 3 × 300 ms", host_unplugged, bfd=True, bound=1.1),
    Scenario("host-unplugged", "cable pulled, no BFD", host_unplugged, runs=5),
    Scenario("drain", "`drain` of one host under new connections", drain, bound=0),
    Scenario("sigterm", "SIGTERM of one host under new connections", sigterm, bound=0),
    Scenario("rolling-backends", "rolling restart of the backends", rolling_backends, bound=0, runs=5),
    Scenario("rolling-hosts", "rolling restart of the hosts with drain", rolling_hosts, runs=5),
    Scenario("rolling-hosts-fellows", "rolling restart of the hosts with drain, which are `fellow`s", rolling_hosts, bound=0,
             runs=20, only="contrail-lb", fellows=True),
]
