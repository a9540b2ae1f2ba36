"""What the tests of the Python package share: a probe for what they leave behind, and a time limit."""

import gc
import os
import pathlib
import signal
import sys
import time
import uuid

import pytest

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE / "models"
REPOSITORY = HERE.parents[2]
PATIENCE = 60.0

# The functions that executors are given are the tests' own.
sys.path[:0] = [str(HERE), str(MODELS)]

# Who starts the tests in the background of a shell has SIGINT ignored, in all that they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until(is_so, what, patience=PATIENCE):
    """Waits for a condition; fails after `patience` seconds."""
    end = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def processes_with(mark):
    """The processes that have the mark in their environment."""
    entry = ("NEARCALL_TEST_MARK=" + mark).encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if entry in environ.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def leaves_nothing_behind(monkeypatch):
    """Each test's processes and descriptors are gone after it."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("NEARCALL_TEST_MARK", mark)
    gc.collect()
    before = descriptors()
    yield mark
    gc.collect()
    # This process itself has had its environment before.
    wait_until(lambda: not processes_with(mark), "processes are left", 20)
    wait_until(lambda: gc.collect() >= 0 and descriptors() <= before, "descriptors are left", 20)
    # (Other engines on this machine may be at their start, and have a name for a moment.)
