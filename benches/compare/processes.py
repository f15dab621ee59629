"""Processes: starting a balancer on its core, ending it, and what the machine does meanwhile."""

import ctypes
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

from balancers import DESCRIPTORS

# prctl(2): the signal that a process gets when the one that started it is gone.
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """A measurement that came to nothing, and why."""


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


def child(core, parent_gone):
    """What a child does before it becomes its program: it takes its core and its limit, and learns of our end."""
    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, parent_gone)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        os.sched_setaffinity(0, {core})
    return prepare


class Running:
    """A balancer on its core, in a process group of its own; ended with the block, and every child of it too.

    A failure within the block is told with how the balancer ended and what it wrote.
    """

    def __init__(self, command, core, log, port, tracer=()):
        self.log = log
        self.traced = bool(tracer)
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [*tracer, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=child(core, signal.SIGTERM))
        try:
            self.await_door(port)
        except BaseException as failure:
            self.__exit__(None, failure)
            raise

    def await_door(self, port):
        deadline = time.monotonic() + 10
        while not listens(port):
            if self.has_ended() or time.monotonic() > deadline:
                raise Failed("it does not listen")
            time.sleep(0.02)
        time.sleep(0.1)

    def pids(self):
        """The balancer's processes; a tracer is none of them."""
        return descendants(self.process.pid)[1 if self.traced else 0:]

    def has_ended(self):
        """Whether it has, seen without taking its status: until then its number stays its own."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def check(self):
        """What was measured counts only while the balancer is there; a child may have served on without it."""
        if self.has_ended():
            raise Failed("it did not last")

    def last_words(self):
        """How it ended, if it did, and what it wrote last."""
        told = ""
        if self.has_ended():
            ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
            how = "exit status" if ended.si_code == os.CLD_EXITED else "signal"
            told = f"; it has ended with {how} {ended.si_status}"
        written = self.log.read_text(errors="replace")[-2000:].strip()
        return told + (f"; it wrote last:\n{written}" if written else "")

    def __enter__(self):
        return self

    def __exit__(self, _kind=None, failure=None, *_):
        """Asks it to end, gives it a moment, and then ends what is left of its group."""
        if isinstance(failure, Failed):
            failure.args = (f"{failure}{self.last_words()}",)
        for pid in self.pids()[:1]:
            self.kill(os.kill, pid, signal.SIGTERM)
        give_up = time.monotonic() + (15 if self.traced else 0.5)
        while not self.has_ended() and time.monotonic() < give_up:
            time.sleep(0.005)
        self.kill(os.killpg, self.process.pid, signal.SIGKILL)
        self.process.wait()

    @staticmethod
    def kill(how, whom, signal_number):
        try:
            how(whom, signal_number)
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
