"""The router's forwarding table as the kernel tells of it: which hosts the VIP goes to, and since when."""

import socket
import struct
import threading
import time

import lab

RTMGRP_IPV4_ROUTE = 0x40
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTA_DST, RTA_GATEWAY, RTA_MULTIPATH = 1, 5, 9


class Fib(threading.Thread):
    """Listens in the router's namespace; `history` is (monotonic time, set of next hops)."""

    def __init__(self, namespace):
        super().__init__(daemon=True)
        self.namespace, self.history, self.changed = namespace, [(time.monotonic(), frozenset())], threading.Condition()
        self.ready = threading.Event()
        self.start()
        self.ready.wait()

    def run(self):
        lab.enter(self.namespace)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as listener:
            listener.bind((0, RTMGRP_IPV4_ROUTE))
            self.ready.set()
            while True:
                data, at = listener.recv(65536), time.monotonic()
                for hops in changes(data):
                    with self.changed:
                        self.history.append((at, hops))
                        self.changed.notify_all()

    def hops(self):
        with self.changed:
            return self.history[-1][1]

    def when(self, start, within, condition):
        """When, after `start`, the next hops first satisfied the condition for good; `None`: not in time."""
        end = time.monotonic() + within
        with self.changed:
            while not condition(self.history[-1][1]):
                if not self.changed.wait(end - time.monotonic()) and time.monotonic() >= end:
                    return None
            at = None
            for when, hops in reversed(self.history):
                if not condition(hops):
                    break
                at = when
            return max(at, start)

    def changes_since(self, start):
        with self.changed:
            return sum(1 for at, _ in self.history if at >= start)


def changes(data):
    """The next hops of the VIP after each message about it."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            destination, hops = parse(data[16:length])
            if destination == lab.VIP:
                yield hops if kind == RTM_NEWROUTE else frozenset()
        data = data[(length + 3) & ~3:]


def parse(message):
    destination, hops = None, set()
    for kind, value in attributes(message[12:]):
        if kind == RTA_DST and message[1] == 32:
            destination = socket.inet_ntoa(value)
        elif kind == RTA_GATEWAY:
            hops.add(socket.inet_ntoa(value))
        elif kind == RTA_MULTIPATH:
            while len(value) >= 8:
                length = struct.unpack_from("=H", value)[0]
                hops |= {socket.inet_ntoa(v) for k, v in attributes(value[8:length]) if k == RTA_GATEWAY}
                value = value[(length + 3) & ~3:]
    return destination, frozenset(hops)


def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3:]
