"""Models for tests/in_place.rs: what a model may do with tensors in place."""

import multiprocessing
import os

import numpy


def _mapping(address):
    """What is mapped at an address: its line in the list, or nothing."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if start <= address < end:
                return line
    return ""


def _address(array):
    return array.__array_interface__["data"][0]


def describe(x):
    try:
        x[...] = 0
        is_read_only = x.size == 0
    except ValueError:
        is_read_only = True
    is_aligned = _address(x) % 64 == 0
    is_shared = "/dev/shm/nearcall-" in _mapping(_address(x))
    return [is_read_only, is_aligned, is_shared, x.dtype.name, x.shape, x]


def _view(kept):
    if isinstance(kept, Exception):
        return kept.__traceback__.tb_frame.f_locals["x"]
    return kept


class Keeper:
    """Keeps what it gets, if it is told to."""

    def __init__(self):
        self.kept = []

    def run(self, how, x):
        if how == "keep":
            self.kept.append(x)
        elif how == "slice":
            self.kept.append(x[1:])
        elif how == "view":
            self.kept.append(memoryview(x))
        elif how == "traceback":
            try:
                raise ValueError(how)
            except ValueError as error:
                self.kept.append(error)
                raise
        elif how == "cycle":
            error = ValueError(how)
            error.x, error.self = x, error
        elif how == "tell":
            return [bytes(_view(kept)) for kept in self.kept]
        elif how == "where":
            addresses = [_address(view) for view in self.kept]
            return [os.getpid(), *addresses]
        elif how == "drop":
            self.kept.clear()
        return [os.getpid(), 0 if x is None else int(x.sum())]


class Parent:
    """Forks children that use an array when they are told to."""

    def __init__(self):
        self.child = None

    def run(self, how, x, out):
        out[:] = x
        if how == "fork":
            self._fork(_read, x)
        elif how == "fork a writer":
            self._fork(_scribble, out)
        elif how == "tell":
            told = self._tell()
            return [out, told]
        elif how == "at once":
            self._fork(_read, x)
            told = self._tell()
            return [out, told]
        elif how.startswith("leave by"):
            child = os.fork()
            if child == 0:
                # What is mapped anew may come to stand where the arrays were.
                self.child = [bytearray(1 << 20) for _ in range(100)], x
                if how == "leave by SystemExit":
                    raise SystemExit(0)
                return [out]
            _, status = os.waitpid(child, 0)
            return [out, os.WEXITSTATUS(status) if os.WIFEXITED(status) else -status]
        elif how == "leave a destructor":
            self.child = None
            return [out, _Forks()]
        return [out]

    def _fork(self, act, array):
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=_child, args=(act, array, theirs))
        child.start()
        theirs.close()
        self.child = (child, ours)

    def _tell(self):
        child, pipe = self.child
        pipe.send("go")
        told = pipe.recv()
        child.join()
        return told


class _Forks(list):
    """A list whose end, which comes when the caller has been answered, forks."""

    def __del__(self):
        if os.fork() > 0:
            os.wait()


def _child(act, array, pipe):
    pipe.recv()
    pipe.send(act(array))


def _read(x):
    return x.tobytes()


def _scribble(out):
    before = out.tobytes()
    out[:] = 99
    return before


def outputs(how, x, out):
    if how != "ignored":
        numpy.multiply(x, 2, out=out)
    return {
        "whole": lambda: out,
        "among others": lambda: {"a": 1, "out": [out, "text"]},
        "part": lambda: out[1:],
        "twice": lambda: [out, out],
        "apart": lambda: out[:, ::2],
        "ignored": lambda: x + 1,
        "input": lambda: [x, x[1:], out],
    }[how]()


def large(how):
    numbers = numpy.arange(1 << 21)
    return {
        "alone": lambda: numbers,
        "two": lambda: {"a": 1, "first": numbers, "b": [2, numbers[1:]], "c": None},
        "then none": lambda: {"a": numbers, "b": {1}},
    }[how]()
