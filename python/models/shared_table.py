"""A model with weights that all workers share: every hook of the protocol, in the order of use.

    nearcall run shared_table:Table --method lookup --init '{"scale": 0.5}' ...

with tasks such as {"indices": [0, 7, 99999]}.
"""

import array
import os
import sys


class Table:
    """Looks numbers up in a table that is loaded once, before the workers are forked."""

    weights = None

    @classmethod
    def preload(cls):
        """Runs once, in the process that the workers are forked from.

        What is loaded here exists once in memory however many workers there are, as long as
        nobody writes to it. An array of numbers is the right shape for that: CPython writes a
        reference count into every object it touches, which copies the page the object is on,
        and an array is one object.
        """
        cls.weights = array.array("d", (index * index for index in range(100_000)))

    def __init__(self):
        self._scale = 1.0

    def initialize(self, scale=1.0):
        """Runs in each worker, after the fork: the place for connections, threads and CUDA."""
        self._scale = scale

    def lookup(self, *, indices):
        """Runs once per task. An index out of range raises, and the caller gets the IndexError."""
        return [self._scale * self.weights[index] for index in indices]

    def finalize(self):
        """Runs in each worker that ends in order (not in one that was killed)."""
        print(f"worker {os.getpid()} ends", file=sys.stderr)
