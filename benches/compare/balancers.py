"""The balancers under comparison: how each is configured for the same job, and started.

The job: a listener routes by SNI, two names to two pools of the same two backends; a client stays with its backend; one
worker; half-closed connections stay; no check, no access log unless asked for, no keepalive for the rivals.
"""

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOAD = ROOT / "target/compare/release/load"
LYNCPIN = ROOT / "target/release/lyncpin"
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


def haproxy_cfg(ports, extra):
    backend = f"""
    balance leastconn
    stick-table type ip size 100k expire 20m
    stick on src
    server a 127.0.0.1:{ports['a']}
    server b 127.0.0.1:{ports['b']}
"""
    lines = "".join(f"    {line}\n" for line in extra)
    return f"""
global
    nbthread 1
    maxconn 4500
{lines}
defaults
    mode tcp
    option splice-auto
    timeout connect 4s
    timeout client 1900s
    timeout server 1900s
    timeout client-fin 60s
    timeout server-fin 60s

frontend bench
    bind 127.0.0.1:{ports['in']}
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    tcp-request content reject
    use_backend one if {{ req.ssl_sni -i one.bench.test }}
    use_backend two if {{ req.ssl_sni -i two.bench.test }}

backend one{backend}
backend two{backend}"""


def nginx_conf(ports, directory, dynamic):
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
events {{ worker_connections 9000; }}
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
        self.versions = {"lyncpin": said(str(LYNCPIN), "--version")}
        if self.haproxy:
            self.versions["haproxy"] = said(self.haproxy, "-v").split(" - ")[0]
        if self.nginx:
            self.versions["nginx"] = said(self.nginx, "-v")
            self.nginx_dynamic = "--with-stream=dynamic" in said(self.nginx, "-V", whole=True)

    def command(self, balancer, ports, directory):
        def write(name, text):
            (directory / name).write_text(text)
            return str(directory / name)

        if balancer.startswith("lyncpin"):
            file = write("balancer.yaml", lyncpin_yaml(ports, balancer == "lyncpin+log"))
            return [str(LYNCPIN), "run", "-c", file]
        if balancer == "haproxy":
            return [self.haproxy, "-db", "-f", write("haproxy.cfg", haproxy_cfg(ports, self.haproxy_global))]
        if balancer == "nginx":
            file = write("nginx.conf", nginx_conf(ports, directory, self.nginx_dynamic))
            return [self.nginx, "-p", str(directory), "-c", file]
        return [str(LOAD), "floor", "--listen", f"127.0.0.1:{ports['in']}", "--to", f"127.0.0.1:{ports['a']}"]

    def haproxy_is_new(self):
        number = self.versions.get("haproxy", "").split("version ")[-1].split(".")[0]
        return number.isdigit() and int(number) >= 3


def said(*command, whole=False):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout if whole else done.stdout.splitlines()[0].strip()
