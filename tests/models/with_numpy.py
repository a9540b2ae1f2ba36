"""A model that uses numpy, imported before the fork."""

import os
import random

import numpy


def draws():
    return [os.getpid(), random.random(), float(numpy.random.random())]


def total(values):
    return float(numpy.asarray(values).sum()), numpy.__version__


def describe(value):
    """What the model has got: of which class, type and shape, and whether it can be relied on."""
    flags = value.flags
    good = flags.c_contiguous and flags.aligned and value.dtype.isnative and not flags.writeable
    return [type(value) is numpy.ndarray and good, value.dtype.name, value.shape, value.tobytes()]


_numbers = numpy.arange(12, dtype="int32").reshape(3, 4)

_answers = {
    "transposed": _numbers.T,
    "reversed": _numbers[::-1, ::-2],
    "broadcast": numpy.broadcast_to(_numbers[0], (2, 4)),
    "scalar": numpy.float32(1.5),
    "rank 0": numpy.array(7, dtype="uint8"),
    "object": numpy.array([{}]),
    "record": numpy.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    "text": numpy.array(["ab"]),
    "date": numpy.zeros(2, dtype="datetime64[s]"),
    "big-endian": numpy.zeros(2, dtype=">f4"),
    "complex": numpy.zeros(2, dtype="complex64"),
    "long double": numpy.longdouble(1),
    "masked": numpy.ma.masked_array([1, 2], [0, 1]),
    "large": numpy.broadcast_to(numpy.uint8(0), 1 << 40),
}


def arrays(which):
    return {"x": [_answers[which]]}
