"""What runs on the two load balancer hosts: contrail-lb, or HAProxy and BIRD with a check script as operators run them."""

import signal

from lab import BACKENDS, HOSTS, LB_AS, PORT, ROUTER_AS, VIP, Child, run, wait


class ContrailLb:
    name = "contrail-lb"

    def __init__(self, network, directory, binary, scenario):
        self.network, self.directory, self.binary, self.children = network, directory, binary, {}
        for lb in ["lb1", "lb2"]:
            self._configure(lb, scenario)

    def _folder(self, lb):
        return self.directory / f"contrail-{lb}"

    def _configure(self, lb, scenario):
        self._folder(lb).mkdir()
        backends = "".join(f'[[service.backend]]\nname = "b{i}"\naddress = "{a}:{p}"\n'
                           for i, (a, p) in enumerate(BACKENDS))
        other = {"lb1": "lb2", "lb2": "lb1"}[lb]
        fellow = f"""
[[bgp.peer]]
name = "{other}"
address = "{HOSTS[other]}.2"
remote_as = {LB_AS}
fellow = true
""" if scenario.fellows else ""
        (self._folder(lb) / "conf.toml").write_text(f"""
[global]
threads = 1
drain_timeout = "20s"
[admin]
socket = "{self._folder(lb)}/admin.sock"
listen = ""
[bgp]
local_as = {LB_AS}
router_id = "{HOSTS[lb]}.2"
connect_retry = "500ms"
listen = ["{HOSTS[lb]}.2:179"]
[[bgp.peer]]
name = "router"
address = "{HOSTS[lb]}.1"
remote_as = {ROUTER_AS}
bfd = {{ enabled = {str(scenario.bfd).lower()}, min_tx = "300ms", min_rx = "300ms", multiplier = 3 }}{fellow}
[[vip]]
address = "{VIP}"
announce_delay = "500ms"
flap = {{ max_delay = "0s" }}
[[service]]
name = "contrail-api"
vip = "{VIP}"
ports = [{PORT}]
{scenario.check}
{backends}""")

    def start(self, lb):
        folder = self._folder(lb)
        self.children[lb] = Child(folder / "log", [str(self.binary), "run", "--config", str(folder / "conf.toml")],
                                  self.network.names[lb])

    def kill(self, lb):
        self.children[lb].signal(signal.SIGKILL)

    def freeze(self, lb, number=signal.SIGSTOP):
        self.children[lb].signal(number)

    def terminate(self, lb):
        self.children[lb].signal(signal.SIGTERM)

    def gone(self, lb):
        return self.children[lb].process.poll() is not None

    def clean(self, lb):
        """What a killed host that comes back does not have any more."""
        run("ip", "-n", self.network.names[lb], "addr", "del", f"{VIP}/32", "dev", "lo", check=False)

    def drain(self, lb):
        self._tell(lb, "drain", "--no-wait")

    def undrain(self, lb):
        self._tell(lb, "undrain")

    def _tell(self, lb, *words):
        run(str(self.binary), *words[:1], "--socket", str(self._folder(lb) / "admin.sock"), *words[1:])

    def end(self):
        for child in self.children.values():
            child.end()


SCRIPT = """#!/bin/bash
# Every 2 s: is the service there? Three times no: withdraw. Twice yes: announce.
good=0 bad=0 state=up
while sleep 2; do
  if curl -fsS -m 2 -o /dev/null "http://{vip}:{port}/" 2>/dev/null; then good=$((good + 1)) bad=0
  else bad=$((bad + 1)) good=0; fi
  if [ $state = up ] && [ $bad -ge 3 ]; then birdc -s {ctl} disable vip >/dev/null; state=down; fi
  if [ $state = down ] && [ $good -ge 2 ]; then birdc -s {ctl} enable vip >/dev/null; state=up; fi
done
"""


class HaproxyBird:
    name = "HAProxy + BIRD"

    def __init__(self, network, directory, _binary, scenario):
        self.network, self.directory, self.bfd, self.children = network, directory, scenario.bfd, {}

    def start(self, lb):
        folder, namespace = self.directory / f"pair-{lb}", self.network.names[lb]
        folder.mkdir(exist_ok=True)
        servers = "".join(f"  server b{i} {a}:{p} check inter 2000 rise 2 fall 3\n"
                          for i, (a, p) in enumerate(BACKENDS))
        (folder / "haproxy.cfg").write_text(
            "global\n  nbthread 1\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 50s\n"
            f"  timeout server 50s\n  option nolinger\nlisten api\n  bind {VIP}:{PORT}\n  balance roundrobin\n{servers}")
        (folder / "bird.conf").write_text(
            f"log stderr all;\nrouter id {HOSTS[lb]}.2;\nprotocol device {{}}\n"
            f"protocol static vip {{ ipv4; route {VIP}/32 blackhole; }}\n"
            f"protocol bfd {{ interface \"*\" {{ min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }}; }}\n"
            f"protocol bgp upstream {{ local {HOSTS[lb]}.2 as {LB_AS}; neighbor {HOSTS[lb]}.1 as {ROUTER_AS}; hold time 9; "
            f"connect delay time 1; connect retry time 1; error wait time 1, 1; {'bfd on; ' if self.bfd else ''}"
            "ipv4 { import none; export where source = RTS_STATIC; next hop self; }; }\n")
        ctl = folder / "ctl"
        ctl.unlink(missing_ok=True)
        (folder / "check").write_text(SCRIPT.format(vip=VIP, port=PORT, ctl=ctl))
        run("ip", "-n", namespace, "addr", "replace", f"{VIP}/32", "dev", "lo")
        self.children[lb] = [
            Child(folder / "haproxy.log", ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], namespace),
            Child(folder / "bird.log", ["bird", "-f", "-c", str(folder / "bird.conf"), "-s", str(ctl),
                                        "-P", str(folder / "pid")], namespace),
        ]
        wait("BIRD's socket", 10, ctl.exists)
        self.children[lb].append(Child(folder / "check.log", ["bash", str(folder / "check")], namespace))

    def kill(self, lb):
        for child in self.children[lb]:
            child.signal(signal.SIGKILL)

    def freeze(self, lb, number=signal.SIGSTOP):
        for child in self.children[lb]:
            child.signal(number)

    def terminate(self, lb):
        """As a host that shuts down: every service is told to stop."""
        for child in self.children[lb]:
            child.signal(signal.SIGTERM)

    def gone(self, lb):
        return all(child.process.poll() is not None for child in self.children[lb])

    def clean(self, lb):
        pass

    def drain(self, lb):
        """The route first, as a careful operator does; HAProxy goes on."""
        run("birdc", "-s", str(self.directory / f"pair-{lb}" / "ctl"), "disable", "vip")

    def undrain(self, lb):
        run("birdc", "-s", str(self.directory / f"pair-{lb}" / "ctl"), "enable", "vip")

    def end(self):
        for children in self.children.values():
            for child in children:
                child.end()


SYSTEMS = {"contrail-lb": ContrailLb, "haproxy+bird": HaproxyBird}
