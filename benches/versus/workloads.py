"""What is asked of the proxies, and of which of them."""

import dataclasses

CEILING, OURS, PEERS, SPLICED = ("direct", "dnat"), ("contrail-lb", "contrail-lb-epoll"), ("haproxy", "nginx"), ("haproxy-splice",)
# The same proxy by the size of its configuration; `-all`: with the load on all services, not on one of them.
SCALED = tuple(f"{proxy}-{size}" for proxy in ("contrail-lb", "haproxy") for size in ("3", "1000", "256", "256-all"))
SIZES = {"3": "1 service, 3 backends", "1000": "1 service, 1,000 backends", "256": "256 services, load on one",
         "256-all": "256 services, load on all"}
# What each is called in tables.
TITLES = {"direct": "no proxy", "dnat": "nftables DNAT", "haproxy": "HAProxy", "haproxy-splice": "HAProxy, splice",
          **{f"contrail-lb-{size}": f"contrail-lb, {text}" for size, text in SIZES.items()},
          **{f"haproxy-{size}": f"HAProxy, {text}" for size, text in SIZES.items()}}


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    connections: int
    path: str = "/small"
    headers: tuple = ()
    per: str = "request"
    tls: bool = False
    load: str = "wrk"  # wrk | handshakes | upload | connect | ping
    who: tuple = CEILING + OURS + PEERS
    steady: bool = False  # opening and closing the connections is not counted
    group: str = ""  # what --workload calls it; its own name if empty

    @property
    def called(self):
        return self.group or self.name


TLS = OURS + PEERS
STEPS = (1, 16, 256, 2000)

WORKLOADS = [
    Workload("kept-alive", "Small requests on 64 kept-alive connections", 64),
    Workload("connection", "A new connection per request, 64 at a time", 64, headers=("Connection: close",)),
    Workload("bulk", "64 MiB bodies from the backend on 8 kept-alive connections", 8, "/large", per="byte",
             who=CEILING + OURS + PEERS + SPLICED),
    Workload("upload", "64 MiB bodies towards the backend on 8 kept-alive connections", 8, per="byte", load="upload",
             who=CEILING + OURS + PEERS + SPLICED),
    Workload("latency", "One connection, 64 bytes there and back, one after the other", 1, load="ping"),
    Workload("tls-handshake", "A new TLS connection per request, 16 at a time, each with a whole handshake", 16,
             tls=True, load="handshakes", who=TLS),
    Workload("tls-resumed", "A new TLS connection per request, 64 at a time, each resumes a session", 64,
             headers=("Connection: close",), tls=True, who=TLS),
    Workload("tls-bulk", "64 MiB bodies on 8 kept-alive TLS connections", 8, "/large", per="byte", tls=True, who=TLS),
    *(Workload(f"scale-{n}", f"Small requests on {n} kept-alive connections", n, who=TLS, steady=True, group="scale-connections") for n in STEPS),
    Workload("scale-backends", "A new connection per request, 64 at a time, by the size of the configuration", 64,
             load="connect", who=SCALED),
]
GROUPS = list(dict.fromkeys(w.called for w in WORKLOADS))
