"""What a connection costs in memory while nothing happens on it."""

import socket
import time


def idle(proxy, count):
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
        connection = socket.create_connection(proxy.endpoints["http", False], timeout=10)
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
