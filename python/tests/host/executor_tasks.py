"""What the tests hand to executors."""

import os
import signal
import sys
import time

STATE = []


def square(x):
    return x * x


def pid(_=None):
    return os.getpid()


def raise_it(error):
    raise error


def die(code=None):
    if code is None:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code)


def nap(seconds):
    time.sleep(seconds)
    return seconds


def die_after(seconds):
    time.sleep(seconds)
    os._exit(3)


class Exits:
    """Ends whoever unpickles it."""

    def __reduce__(self):
        return sys.exit, (7,)


def wait_for(path):
    open(path + ".runs", "w").close()
    while not os.path.exists(path):
        time.sleep(0.001)
    return path


def initialize(*arguments):
    STATE.append(arguments)


def state():
    return STATE


def unpicklable():
    return lambda: 1


class Stubborn(Exception):
    """Cannot be unpickled: it wants two arguments."""

    def __init__(self, one, two):
        super().__init__(one)


def raise_stubborn():
    raise Stubborn(1, 2)


def add(a, b, *, c=0):
    return a + b + c


def touch(path):
    time.sleep(0.05)
    open(path, "w").close()


def negate(x):
    return -x


class Counting:
    """Counts, which must not be seen by the next call."""

    def __init__(self):
        self.count = 0

    def add(self, amount):
        self.count += amount
        return self.count

    __call__ = add

    def is_the_same(self, other):
        return self is other
