"""One measurement: a fresh balancer, a load, and the figures that come out of it."""

import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

from balancers import Programs
from processes import Failed, Running, busy, child, free_ports, spent

# What a measurement without a balancer between is called.
DIRECT = "direct"
# How often a measurement is repeated because others used the machine, and how long each time is waited for quiet.
TRIES, PATIENCE = 3, 10
# Seconds that a load may take beyond its window, and one that counts units: it gives up before by itself.
BEYOND, COUNTING = 45, 170


def family(load):
    return load.split("-")[0]


def figures(load, counted):
    """What is compared, by name."""
    units, cpu, seconds = counted.get("units", 0), counted.get("cpu_s", 0), counted["seconds"]
    kind = family(load)
    if not (counted["bytes"] if kind in ("down", "up") else units):
        raise Failed("nothing was moved or served in the whole window")
    if kind == "idle":
        return {
            "bytes/connection": counted["memory_kib"] * 1024 / units,
            "descriptors/connection": counted["descriptors"] / units,
            "CPU idle, %": 100 * cpu / seconds,
        }
    if kind in ("down", "up"):
        gigabytes = counted["bytes"] / 1e9
        return {"CPU-s/GB": cpu / gigabytes, "GB/s": gigabytes / seconds}
    latencies = {"p50, us": counted["p50_us"], "p99, us": counted["p99_us"]}
    if kind == "ping":
        # There and back: two messages.
        return {"CPU us/message": cpu / units / 2 * 1e6} | latencies | {"1000 messages/s": units * 2 / seconds / 1e3}
    if kind == "connect":
        return {"CPU us/connection": cpu / units * 1e6} | latencies | {"1000 connections/s": units / seconds / 1e3}
    return latencies | {"late": counted["late"], "GB/s": counted["bytes"] / 1e9 / seconds}


class Bench:
    """The machine, the programs and the options of a run."""

    def __init__(self, options):
        self.options = options
        self.programs = Programs(options)
        cores = sorted(os.sched_getaffinity(0))
        self.cores = (cores[0], cores[min(1, len(cores) - 1)])
        if len(cores) == 1:
            print("one core only: balancer and bench share it, and the ratios say little", file=sys.stderr)

    def measure(self, balancer, load):
        """Measures; where others used more of the machine than is bearable again, and keeps the quietest."""
        best = None
        for _ in range(TRIES if self.options.quiet else 1):
            self.wait_for_quiet()
            measured = self.measure_once(balancer, load)
            if best is None or measured["others, %"] < best["others, %"]:
                best = measured
            if best["others, %"] <= (self.options.quiet or 100):
                break
        return best

    def wait_for_quiet(self):
        give_up, look = time.monotonic() + PATIENCE, 0.3
        while self.options.quiet and time.monotonic() < give_up:
            before = busy(self.cores)
            time.sleep(look)
            if (busy(self.cores) - before) / look / len(set(self.cores)) * 100 <= self.options.quiet:
                break

    def measure_once(self, balancer, load):
        window = ["--warm", str(self.options.warm), "--seconds", str(self.options.seconds)]
        with tempfile.TemporaryDirectory(prefix="compare-") as directory:
            directory, ports = pathlib.Path(directory), free_ports(["in", "a", "b", "admin"])
            if balancer == DIRECT:
                return self.drive(load, "a", ports, [], window)
            command = self.programs.command(balancer, load, ports, directory)
            with Running(command, self.cores[0], directory / "log", ports["in"]) as running:
                measured = self.drive(load, "in", ports, running.pids(), window)
                running.check()
                return measured

    def drive(self, load, via, ports, pids, window):
        """Runs the load, and notes how much of the two cores was neither the balancer's nor the bench's."""
        begun, before, ours = time.monotonic(), busy(self.cores), spent(pids) + children_spent()
        counted = self.load(load, via, ports, pids, window)
        ours = spent(pids) + children_spent() - ours
        others = (busy(self.cores) - before - ours) / (time.monotonic() - begun) / len(set(self.cores))
        bench = counted.get("own_cpu_s", 0) / counted["seconds"]
        aside = {"others, %": max(0.0, round(100 * others, 1)), "bench, %": round(100 * bench, 1)}
        return figures(load, counted) | aside

    def load(self, load, via, ports, pids, window):
        command = [self.programs.load, "run", load, "--via", f"127.0.0.1:{ports[via]}", *window]
        for name in ("a", "b"):
            command += ["--backend", f"127.0.0.1:{ports[name]}"]
        for pid in pids:
            command += ["--pid", str(pid)]
        limit = COUNTING if "--units" in window else self.options.warm + self.options.seconds + BEYOND
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit,
                                  preexec_fn=child(self.cores[1], signal.SIGKILL))
        except subprocess.TimeoutExpired:
            raise Failed(f"the load did not end within {limit:.0f} s") from None
        if done.returncode != 0:
            raise Failed(done.stderr.strip() or f"the load ended with status {done.returncode}")
        return json.loads(done.stdout)

    def system_calls(self, balancer, load, units):
        """System calls for each unit: (name -> calls, name -> failed). What two runs of different length have in
        common, start and end, is no part of the difference."""
        short, long = (self.traced(balancer, load, number) for number in units)
        each = [{}, {}]
        for name, counts in long.items():
            for which, count in enumerate(counts):
                difference = (count - short.get(name, (0, 0))[which]) / (units[1] - units[0])
                if difference >= 0.005:
                    each[which][name] = difference
        return each

    def traced(self, balancer, load, units):
        with tempfile.TemporaryDirectory(prefix="compare-") as directory:
            directory, ports = pathlib.Path(directory), free_ports(["in", "a", "b", "admin"])
            counts = directory / "strace"
            command = self.programs.command(balancer, load, ports, directory)
            tracer = ["strace", "-f", "-c", "-o", str(counts)]
            with Running(command, self.cores[0], directory / "log", ports["in"], tracer) as running:
                self.load(load, "in", ports, [], ["--warm", "0", "--units", str(units)])
                running.check()
            found = {}
            for line in counts.read_text().splitlines():
                row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(\d+)?\s*(\w+)$", line)
                if row and row[3] != "total":
                    found[row[3]] = (int(row[1]), int(row[2] or 0))
            return found


def children_spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
