"""Every byte, both ways: bodies of random bytes through each proxy, with counts and CRC-32 taken at both ends."""

import random
import socket
import ssl
import struct
import zlib

import backends

# The measured size, and small ones around the sizes of headers and buffers. In bytes: towards the backend, and from it.
BODIES = [(backends.LARGE_BODY, backends.LARGE_BODY), (1, 0), (0, 1), (16384, 65537), (65535, 16383)]


def every_byte(running):
    """One result per proxy and kind of connection; `wrong` says what differed first, or is empty."""
    body = random.Random(5).randbytes(backends.LARGE_BODY)
    results = []
    for proxy in running:
        for (what, tls), address in proxy.endpoints.items():
            if what == "sink" and not proxy.inside:
                try:
                    wrong = _exchange(address, tls, body)
                except OSError as error:
                    wrong = str(error)
                results.append({"proxy": proxy.name, "tls": tls, "wrong": wrong, "sent": sum(up for up, _ in BODIES),
                                "received": sum(down for _, down in BODIES)})
    return results


def _exchange(address, tls, body):
    with socket.create_connection(address, timeout=30) as plain:
        connection = _unchecked().wrap_socket(plain, server_hostname="versus.example") if tls else plain
        with connection:
            stream = connection.makefile("rb")
            for up, down in BODIES:
                sent = memoryview(body)[:up]
                connection.sendall(struct.pack("=QQQ", up, down, 1))
                for at in _cuts(up):
                    connection.sendall(sent[at])
                received, crc = struct.unpack("=QQ", _exactly(stream, 16))
                if received != up or crc != zlib.crc32(sent):
                    return f"body of {up} bytes: {received} arrived, CRC {crc:08x} instead of {zlib.crc32(sent):08x}"
                answer = _exactly(stream, down)
                [crc] = struct.unpack("=Q", _exactly(stream, 8))
                if crc != zlib.crc32(answer):
                    return f"answer of {down} bytes: CRC {zlib.crc32(answer):08x} instead of {crc:08x}"
    return ""


def _cuts(length):
    """Slices of many sizes, always the same ones: one byte to a megabyte at a time."""
    sizes, at = random.Random(length), 0
    while at < length:
        size = int(2 ** sizes.uniform(0, 20))
        yield slice(at, min(at + size, length))
        at += size


def _exactly(stream, length):
    data = stream.read(length)
    if len(data) != length:
        raise OSError(f"the connection ended {length - len(data)} bytes early")
    return data


def _unchecked():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
