"""The proxies and their configurations.

Each is configured to do the same job: round robin over three addresses of each backend, a TCP check every two seconds,
two threads (nginx: two workers with a listening socket each, and no checks: it has none), no log of connections,
time-outs that idle connections survive, room for 7,000 connections. Beside each port is one with TLS that the proxy ends.
"""

import pathlib

import backends
import children

FRONT_PORT, TLS_OFFSET = 20000, 443
SERVICES_MANY, BACKENDS_MANY = 256, 1000


def front(ip, tls=True):
    """Where a proxy listens for each kind of backend."""
    return {(what, secret): (ip, FRONT_PORT + offset + TLS_OFFSET * secret)
            for offset, what in enumerate(["http", "sink"]) for secret in ([False, True] if tls else [False])}


def _contrail_lb(name, directory, endpoints, services, options, backs, engine=None):
    config = f"""[global]
threads = 2
{f'engine = "{engine}"' if engine else ''}
[global.log]
level = "warn"
[admin]
socket = "{directory}/{name}.sock"
listen = ""
""" + "".join(services)
    file = directory / f"{name}.toml"
    file.write_text(config)
    return children.served(name, directory, endpoints, [options.binary.resolve(), "run", "--config", file], backends=backs)


def _service(name, address, servers, check, tls=""):
    return f"""[[service]]
name = "{name}"
listen = ["{address[0]}:{address[1]}"]
timeouts = {{ connect = "5s", client = "600s", server = "600s" }}
check = {{ {check} }}
{tls}
""" + "".join(f'[[service.backend]]\naddress = "{ip}:{port}"\n' for ip, port in servers)


def contrail_lb(name, directory, ip, at, options, backs):
    pair = f'tls = {{ certificate = "{directory}/server.pem", key = "{directory}/server.key" }}'
    services = [_service(f"{what}-{'tls' if tls else 'plain'}", address, at[what], 'kind = "tcp", interval = "2s"', pair if tls else "")
                for (what, tls), address in front(ip).items()]
    engine = "epoll" if name.endswith("-epoll") else None
    return _contrail_lb(name, directory, front(ip), services, options, backs, engine)


def scaled(name, directory, ip, sink_port, options):
    """A proxy without checks (their traffic would grow with the backends) before backends that are all the same sink."""
    proxy, size = name.rsplit("-", 1)
    count, services = {"3": (3, 1), "1000": (BACKENDS_MANY, 1), "256": (3, SERVICES_MANY)}[size]
    servers = [(f"127.200.{i // 250}.{1 + i % 250}", sink_port) for i in range(count)]
    endpoints, listens = {("sink", False): (ip, FRONT_PORT)}, [(ip, FRONT_PORT + i) for i in range(services)]
    if proxy == "haproxy":
        sections = "".join(_listen(f"scale-{i}", address, servers, "") for i, address in enumerate(listens))
        return _haproxy(name, directory, endpoints, sections, [])
    texts = [_service(f"scale-{i}", address, servers, 'kind = "none"') for i, address in enumerate(listens)]
    return _contrail_lb(name, directory, endpoints, texts, options, [])


def haproxy(name, directory, ip, at, _options, backs):
    sections = "".join(
        _listen(f"{what}-{'tls' if tls else 'plain'}", address, at[what], " check inter 2s", f" ssl crt {directory}/both.pem" if tls else "")
        for (what, tls), address in front(ip).items())
    return _haproxy(name, directory, front(ip), sections, backs)


def _listen(name, address, servers, check, tls=""):
    return f"""listen {name}
  bind {address[0]}:{address[1]} backlog 4096{tls}
  balance roundrobin
""" + "".join(f"  server s{i} {ip}:{port}{check}\n" for i, (ip, port) in enumerate(servers))


def _haproxy(name, directory, endpoints, sections, backs):
    # Not `splice-auto`: its guess is that this download is not worth it, and it costs twice as much then.
    splice = "  option splice-request\n  option splice-response\n" if name.endswith("-splice") else ""
    file = directory / f"{name}.cfg"
    file.write_text(f"""global
  nbthread 2
  maxconn 7000
defaults
  mode tcp
  no log
  option dontlognull
{splice}  timeout connect 5s
  timeout client 600s
  timeout server 600s
{sections}""")
    return children.served(name, directory, endpoints, ["haproxy", "-db", "-f", file], backends=backs)


def nginx(name, directory, ip, at, _options, backs):
    upstreams = "".join("upstream {} {{ {} }} ".format(what, "".join("server {}:{}; ".format(*a) for a in servers))
                        for what, servers in at.items())
    servers = "".join(f"  server {{ listen {address}:{port} backlog=4096 reuseport{' ssl' if tls else ''}; proxy_pass {what}; }}\n"
                      for (what, tls), (address, port) in front(ip).items())
    module = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    argv = backends.nginx_command(name, directory, f"""{f"load_module {module};" if module.exists() else ""}
events {{ worker_connections 9000; }}
stream {{ access_log off; {upstreams}
  proxy_timeout 600s; proxy_connect_timeout 5s;
  ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.key; ssl_protocols TLSv1.2 TLSv1.3;
{servers}}}
""")
    return children.served(name, directory, front(ip), argv, backends=backs)


PROXIES = {"contrail-lb": contrail_lb, "contrail-lb-epoll": contrail_lb, "haproxy": haproxy, "haproxy-splice": haproxy, "nginx": nginx}
