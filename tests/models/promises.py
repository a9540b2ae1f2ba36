"""Models for tests/python.rs: each does one thing that a model may do."""

import asyncio
import ctypes
import faulthandler
import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time

_folder = tempfile.TemporaryDirectory()


class Recorder:
    """Tells what was done to it, and in which process."""

    preloaded_by = None

    @classmethod
    def preload(cls):
        cls.preloaded_by = os.getpid()

    def __init__(self):
        self.log = ["constructed"]

    def initialize(self, **kwargs):
        self.log.append("initialized")
        self.kwargs = kwargs

    def run(self, *, x):
        return {
            "log": self.log,
            "kwargs": self.kwargs,
            "preloaded_elsewhere": self.preloaded_by not in (None, os.getpid()),
            "x": x,
        }

    def finalize(self):
        with open(self.kwargs["finalized"], "a") as file:
            file.write("finalized\n")


def draws():
    """Random numbers that no other worker must draw too."""
    numbers = [os.getpid(), random.random()]
    if "numpy" in sys.modules:
        numbers.append(float(sys.modules["numpy"].random.random()))
    return numbers


def environment():
    return sys.prefix, sys.executable, "%d.%d" % sys.version_info[:2]


def echo(flag, whole, real, text, flags, wholes, reals, texts):
    return flag, whole, real, text, flags, wholes, reals, texts


def echo_value(value):
    return value


def kinds():
    return None, True, -(2**63), 1.5, "tëxt\0", b"\x00\xff", [1, [2]], {"a": {"b": ()}}


def misbehave(how):
    if how == "raise":
        raise ValueError("as asked")
    if how == "exit":
        raise SystemExit(3)
    if how == "sys.exit":
        sys.exit("bye")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "os._exit":
        os._exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "os.abort":
        os.abort()
    if how in ("raise in a thread", "os._exit in a thread"):
        thread = threading.Thread(target=misbehave, args=[how.removesuffix(" in a thread")])
        thread.start()
        thread.join()
    if how == "memory":
        return len(bytearray(4 << 30))
    if how == "set":
        return 1, {2}
    if how == "big int":
        return [2**63]
    if how == "surrogate":
        return {"x": "\ud800"}
    if how == "key":
        return {1: 2}
    if how == "cycle":
        cycle = []
        cycle.append(cycle)
        return cycle
    if how == "large":
        return "x" * 5000
    if how == "print":
        print("o" * (4 << 20))
        print("e" * (4 << 20), file=sys.stderr)
    if how == "chdir":
        os.chdir("/")
    if how == "loop":
        while True:
            pass
    if how == "loop_in_c":
        # Never gives the GIL away.
        sum(itertools.repeat(0))
    if how == "deadlock":
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    return "fine"


def bystander():
    threading.Event().wait()


def crash(how):
    """Dies in C, beside another thread."""
    threading.Thread(target=bystander, daemon=True).start()
    if how == "elsewhere":
        faulthandler.enable(file=tempfile.TemporaryFile())
        how = "SIGSEGV"
    if how == "null":
        ctypes.string_at(0)
    os.kill(os.getpid(), getattr(signal, how))


_lock = threading.Lock()
_lock.acquire()


def _make(file):
    with open(file, "w"):
        pass


async def _sleep(there):
    _make(there)
    await asyncio.sleep(1000)


def endless(how, there):
    """Runs until it is interrupted; or not even then. Makes a file when it has come to that."""
    if how == "loop":
        _make(there)
        while True:
            pass
    if how == "sleep":
        _make(there)
        time.sleep(1000)
    if how == "lock":
        _make(there)
        _lock.acquire()
    if how == "asyncio":
        asyncio.run(_sleep(there))
    if how == "beside a thread":
        threading.Thread(target=_compute, daemon=True).start()
        _make(there)
        while True:
            pass
    if how == "cleaning up":
        try:
            _make(there)
            time.sleep(1000)
        finally:
            _cleaned.append(how)
    if how == "stubborn":
        try:
            _make(there)
            time.sleep(1000)
        except KeyboardInterrupt:
            time.sleep(1000)
    if how.startswith("short"):
        # Ends at about the time at which it is interrupted.
        end = time.monotonic() + 0.001
        while time.monotonic() < end:
            pass
    return os.getpid(), len(_cleaned)


_cleaned = []


def _compute():
    while True:
        sum(range(1000))


class Minded:
    """Has a mind of its own about SIGINT."""

    def __init__(self):
        signal.signal(signal.SIGINT, self.handle)
        self.heard = 0

    def handle(self, number, frame):
        self.heard += 1
        raise TimeoutError("my own")

    def __call__(self, how, there):
        if how == "sleep":
            _make(there)
            time.sleep(1000)
        return self.heard


class BadInit:
    def initialize(self, **kwargs):
        raise RuntimeError("no database")

    def run(self):
        return 1


class NoFinalize:
    def __call__(self, x):
        return x + 1


class Strict:
    def run(self, *, float_features):
        return sum(float_features)


def leave_behind():
    """Has the fork server make a folder that is removed at its exit."""
    return _folder.name
