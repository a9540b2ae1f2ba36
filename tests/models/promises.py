"""Models for tests/python.rs: each does one thing that a model may do."""

import ctypes
import faulthandler
import itertools
import os
import random
import signal
import sys
import tempfile
import threading

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
