"""Processes: starting a balancer on its core, ending it, and what the machine does meanwhile."""

import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

from balancers import DESCRIPTORS


def descendants(pid):
    """The process and all that it has started, in the order of starting."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += descendants(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def free_ports(names):
    """Ports below those that the kernel gives to clients, free at this moment."""
    ports, candidates = {}, iter(range(20_001 + os.getpid() % 5_000, 32_000))
    for name in names:
        for port in candidates:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            ports[name] = port
            break
    return ports


def listens(port):
    """Whether somebody does; asked of the kernel, as a connection would be one too many for the balancer."""
    suffix = f":{port:04X}"
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(suffix) and fields[3] == "0A":
            return True
    return False


def limited():
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


class Running:
    """A balancer on its core; ended with the block."""

    def __init__(self, command, core, log, port, tracer=()):
        def prepare():
            limited()
            os.sched_setaffinity(0, {core})

        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [*tracer, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=prepare)
        self.traced = bool(tracer)
        deadline = time.monotonic() + 10
        while not listens(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise SystemExit(f"{command[0]} does not listen:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        time.sleep(0.1)

    def pids(self):
        """The balancer's processes; a tracer is none of them."""
        return descendants(self.process.pid)[1 if self.traced else 0:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is not None:
            return
        pids = self.pids()
        self.kill(pids[:1], signal.SIGTERM)
        try:
            self.process.wait(timeout=15 if self.traced else 0.5)
        except subprocess.TimeoutExpired:
            self.kill(reversed(pids), signal.SIGKILL)
            self.process.wait()

    @staticmethod
    def kill(pids, how):
        for pid in pids:
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                pass


def busy(cores):
    """Seconds that these cores have worked, for whomever; and those that the host has withheld."""
    tick, worked, stolen = os.sysconf("SC_CLK_TCK"), 0, 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] in {f"cpu{core}" for core in cores}:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
            worked += user + nice + system + irq + softirq
            stolen += steal
    return (worked + stolen) / tick


def spent(pids):
    """Seconds of processor time that these processes have used."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(task.read_text().split()[0])
    return total / 1e9
