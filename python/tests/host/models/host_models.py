"""Models for the tests of Python hosts."""

import os
import signal
import sys
import time


def echo(x):
    return x


def typed(flag, number, real, text, flags, numbers, reals, texts):
    return flag, number, real, text, flags, numbers, reals, texts


def raises(x):
    if x == "system":
        raise SystemExit(3)
    raise KeyError(x)


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path):
    """Ends when there is a file of that name; says that it runs by another."""
    open(path + ".runs", "w").close()
    while not os.path.exists(path):
        time.sleep(0.001)
    return os.getpid()


def nothing():
    return None


def strange():
    return {1, 2}


def surroundings():
    import faulthandler

    return {
        "path": sys.path,
        "argv": sys.argv,
        "executable": sys.executable,
        "prefix": sys.prefix,
        "sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "faulthandler": faulthandler.is_enabled(),
        "cwd": os.getcwd(),
        "write_through": sys.stdout.write_through,
        "stdin": sys.stdin.read(),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "main": sorted(name for name in dir(sys.modules["__main__"]) if not name.startswith("__")),
    }


def flags():
    return sys.flags.isolated, sys.flags.optimize, sys.flags.ignore_environment


def crash(x):
    import ctypes

    print("the last words", flush=True)
    ctypes.string_at(0)


class Counter:
    """Has state, and every step of the protocol."""

    def initialize(self, start=0):
        self.count = start

    def add(self, *, amount):
        self.count += amount
        return self.count


class Broken:
    def initialize(self, **_):
        raise LookupError("no table")

    def __call__(self):
        pass
