"""The router: BIRD 2 or FRR, with ECMP over both load balancer hosts, BFD as asked for."""

import subprocess

from lab import HOSTS, LB_AS, ROUTER_AS, Child, run, wait

LBS = ["lb1", "lb2"]


class Bird:
    name = "BIRD"

    def __init__(self, network, directory, bfd):
        folder = directory / "bird-router"
        folder.mkdir()
        text = ("log stderr all;\nrouter id 10.98.0.1;\nprotocol device {}\n"
                "protocol kernel { merge paths on; ipv4 { import none; export all; }; }\n"
                "protocol bfd { interface \"*\" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }\n")
        for lb in LBS:
            text += (f"protocol bgp {lb} {{ local {HOSTS[lb]}.1 as {ROUTER_AS}; neighbor {HOSTS[lb]}.2 as {LB_AS}; "
                     f"hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 1; "
                     f"{'bfd on; ' if bfd else ''}ipv4 {{ import all; export none; }}; }}\n")
        (folder / "conf").write_text(text)
        self.child = Child(folder / "log", ["bird", "-f", "-c", str(folder / "conf"), "-s", str(folder / "ctl"),
                                            "-P", str(folder / "pid")], network.names["router"])
        wait("BIRD's socket", 10, (folder / "ctl").exists)

    def end(self):
        self.child.end(2)


class Frr:
    name = "FRR"

    def __init__(self, network, directory, bfd):
        folder = directory / "frr-router"
        folder.mkdir(mode=0o755)
        bgpd = (f"router bgp {ROUTER_AS}\n bgp router-id 10.98.0.1\n no bgp ebgp-requires-policy\n"
                " no bgp network import-check\n bgp bestpath as-path multipath-relax\n timers bgp 3 9\n")
        for lb in LBS:
            bgpd += f" neighbor {HOSTS[lb]}.2 remote-as {LB_AS}\n neighbor {HOSTS[lb]}.2 timers connect 1\n"
            bgpd += f" neighbor {HOSTS[lb]}.2 advertisement-interval 0\n"
            bgpd += f" neighbor {HOSTS[lb]}.2 bfd 3 300 300\n" if bfd else ""
        bgpd += " address-family ipv4 unicast\n  maximum-paths 4\n"
        texts = {"zebra": "no zebra nexthop kernel enable\n", "bfdd": "", "bgpd": bgpd}
        for name, text in texts.items():
            (folder / f"{name}.conf").write_text(text)
        subprocess.run(["chmod", "755", str(directory)], check=True)
        run("chown", "-R", "frr:frr", str(folder))
        self.children = []
        for name in texts:
            self.children.append(Child(folder.parent / f"{name}.log", [
                f"/usr/lib/frr/{name}", "--log", "stdout", "--vty_socket", str(folder), "-z", str(folder / "zserv.api"),
                "-f", str(folder / f"{name}.conf"), "-i", str(folder / f"{name}.pid"), "-P", "0", "-u", "frr", "-g", "frr",
            ], network.names["router"]))
            wait(f"{name}'s socket", 10, (folder / ("zserv.api" if name == "zebra" else f"{name}.vty")).exists)

    def end(self):
        for child in reversed(self.children):
            child.end(2)


ROUTERS = {"bird": Bird, "frr": Frr}
