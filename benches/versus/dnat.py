"""The kernel as the proxy: nftables rewrites the destination, in a network namespace of the benchmark's own.

Of its own because the first such rule makes the kernel track every connection of its namespace, the others' too, and
because the host's rules are nobody's to touch. Backends of the same kind run in there; the namespace ends with its holder.
"""

import contextlib
import os
import shutil
import subprocess

import backends
import children
import proxies


class Unavailable(Exception):
    """Why there is no such row."""


@contextlib.contextmanager
def started(directory, ip, backend_ip, programs):
    """Yields `Running`, or raises `Unavailable` before anything was started."""
    missing = [program for program in ("nft", "ip", "unshare", "nsenter") if not shutil.which(program)]
    if missing:
        raise Unavailable(f"{', '.join(missing)} not installed")
    if os.geteuid() != 0:
        raise Unavailable("not root")
    directory = directory / "dnat"
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(children.child("namespace", directory, ["unshare", "-n", "sleep", "infinity"]))
        ours = os.readlink("/proc/self/ns/net")
        children.until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != ours, "unshare", holder, directory / "namespace.log")
        inside = ["nsenter", "-t", str(holder.pid), "-n", "--"]
        at = backends.addresses(backend_ip)
        endpoints = proxies.front(ip, tls=False)
        _command([*inside, "ip", "link", "set", "lo", "up"])
        _command([*inside, "nft", "-f", "-"], _rules(endpoints, at))
        # Tracked connections outlive the workload's ports otherwise, and fill the table.
        _command([*inside, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1"])
        behind = stack.enter_context(backends.started("dnat-backend", directory, backend_ip, programs, inside))
        running = children.Running("dnat", directory, endpoints, None, behind, inside, holder.pid)
        try:
            children.until(lambda: children.answers(running), "dnat", holder, directory / "namespace.log")
        except RuntimeError:
            raise Unavailable("nothing answers through the rules") from None
        yield running


def _rules(endpoints, at):
    rules = ""
    for (what, _), (ip, port) in endpoints.items():
        ports = ", ".join(f"{i} : {backend_port}" for i, (_, backend_port) in enumerate(at[what]))
        rules += (f"    ip daddr {ip} tcp dport {port} dnat to {at[what][0][0]} : "
                  f"numgen inc mod {len(at[what])} map {{ {ports} }}\n")
    return f"table ip versus {{\n  chain output {{\n    type nat hook output priority -100\n{rules}  }}\n}}\n"


def _command(argv, text=None):
    out = subprocess.run(argv, input=text, capture_output=True, text=True)
    if out.returncode != 0:
        raise Unavailable(f"{' '.join(argv[5:7])} failed: {out.stderr.strip().splitlines()[0] if out.stderr.strip() else out.returncode}")
