"""A model that uses numpy, imported before the fork."""

import os
import random

import numpy


def draws():
    return [os.getpid(), random.random(), float(numpy.random.random())]


def total(values):
    return float(numpy.asarray(values).sum()), numpy.__version__
