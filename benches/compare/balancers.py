"""The balancers under comparison: how each is configured for the same job, and started.

The job: a listener routes by SNI, two names to two pools of the same two backends; a client stays with its backend; one
worker; half-closed connections stay; no check, no access log unless asked for, no keepalive for the rivals.

What is best for bytes makes small messages dearer, or late beside streams. So the rivals are configured for the load:
in `down` and `up` for bytes, in all others for messages.
"""

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
DESCRIPTORS = 20_000


def lyncpin_yaml(ports, access):
    pool = f"""
    backends: [{{ name: a, address: "127.0.0.1:{ports['a']}" }}, {{ name: b, address: "127.0.0.1:{ports['b']}" }}]
    affinity: {{ by: [source, name], ttl: 20m }}
    health: none"""
    return f"""
listeners:
  bench:
    bind: ["127.0.0.1:{ports['in']}"]
    protocol: tls
    routes:
      - {{ names: [one.bench.test], pool: one }}
      - {{ names: [two.bench.test], pool: two }}
    when_pool_down: refuse
pools:
  one:{pool}
  two:{pool}
workers: 1
admin: {{ bind: "127.0.0.1:{ports['admin']}" }}
log: {{ access: {str(access).lower()} }}
"""


def is_bulk(load):
    return load.split("-")[0] in ("down", "up")


def haproxy_cfg(ports, bulk, extra):
    """With `splice-auto` alone 2.6 does not splice here, as long as no timeout is due; 3.5 decides at each read."""
    tune = ["nbthread 1", "maxconn 4500"] + (["tune.pipesize 262144"] if bulk else [])
    splice = ["option splice-auto"] + (["option splice-request", "option splice-response"] if bulk else [])
    backend = f"""
    balance leastconn
    stick-table type ip size 100k expire 20m
    stick on src
    server a 127.0.0.1:{ports['a']}
    server b 127.0.0.1:{ports['b']}
"""

    def lines(each):
        return "\n".join(f"    {line}" for line in each)

    return f"""
global
{lines(tune + extra)}

defaults
    mode tcp
{lines(splice)}
    timeout connect 4s
    timeout client 1900s
    timeout server 1900s
    timeout client-fin 60s
    timeout server-fin 60s

frontend bench
    bind 127.0.0.1:{ports['in']} defer-accept
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    tcp-request content reject
    use_backend one if {{ req.ssl_sni -i one.bench.test }}
    use_backend two if {{ req.ssl_sni -i two.bench.test }}

backend one{backend}
backend two{backend}"""


def nginx_conf(ports, directory, bulk, dynamic):
    upstream = f"""{{
        hash $remote_addr consistent;
        server 127.0.0.1:{ports['a']};
        server 127.0.0.1:{ports['b']};
    }}"""
    return f"""
{f'load_module {STREAM_MODULE};' if dynamic else ''}
{'user root;' if os.geteuid() == 0 else ''}
daemon off;
worker_processes 1;
worker_rlimit_nofile {DESCRIPTORS};
pid {directory}/nginx.pid;
error_log {directory}/nginx.log crit;
events {{ worker_connections 9000; multi_accept on; }}
stream {{
    map $ssl_preread_server_name $pool {{ one.bench.test one; two.bench.test two; }}
    upstream one {upstream}
    upstream two {upstream}
    server {{
        listen 127.0.0.1:{ports['in']} backlog=4096;
        ssl_preread on;
        preread_timeout 5s;
        proxy_pass $pool;
        proxy_connect_timeout 4s;
        proxy_timeout 1900s;
        proxy_half_close on;
        proxy_buffer_size {'256k' if bulk else '16k'};
    }}
}}
"""


class Programs:
    """Where everything is, and how each balancer is started."""

    def __init__(self, options):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        self.haproxy = options.haproxy or shutil.which("haproxy", path=path)
        self.nginx = options.nginx or shutil.which("nginx", path=path)
        self.haproxy_global = options.haproxy_global
        self.haproxy_plain = options.haproxy_plain
        profile = profile_of(options)
        self.lyncpin = str(ROOT / "target" / profile / "lyncpin")
        self.load = str(ROOT / "target/compare" / profile / "load")
        self.versions = {"lyncpin": said(self.lyncpin, "--version")}
        if self.haproxy:
            self.versions["haproxy"] = said(self.haproxy, "-v").split(" - ")[0]
        if self.nginx:
            self.versions["nginx"] = said(self.nginx, "-v")
            self.nginx_dynamic = "--with-stream=dynamic" in said(self.nginx, "-V", whole=True)

    def command(self, balancer, load, ports, directory):
        """How this balancer is started for this load, its configuration written into the directory."""
        def write(name, text):
            (directory / name).write_text(text)
            return str(directory / name)

        if balancer.startswith("lyncpin"):
            file = write("balancer.yaml", lyncpin_yaml(ports, balancer == "lyncpin+log"))
            return [self.lyncpin, "run", "-c", file]
        if balancer == "haproxy":
            bulk = is_bulk(load) and not self.haproxy_plain
            file = write("haproxy.cfg", haproxy_cfg(ports, bulk, self.haproxy_global))
            return [self.haproxy, "-db", "-f", file]
        if balancer == "nginx":
            file = write("nginx.conf", nginx_conf(ports, directory, is_bulk(load), self.nginx_dynamic))
            return [self.nginx, "-p", str(directory), "-c", file]
        return [self.load, "floor", "--listen", f"127.0.0.1:{ports['in']}", "--to", f"127.0.0.1:{ports['a']}"]

    def haproxy_is_new(self):
        number = self.versions.get("haproxy", "").split("version ")[-1].split(".")[0]
        return number.isdigit() and int(number) >= 3


def profile_of(options):
    """A quick run takes what builds fastest, and what the tests have built already."""
    return "debug" if options.quick else "release"


def said(*command, whole=False):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout if whole else done.stdout.splitlines()[0].strip()
