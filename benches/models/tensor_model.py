"""What the case `tensors` calls. Apart from `bench_model`, because it needs numpy."""

from time import perf_counter

import numpy

# float32: 16 MiB.
LENGTH = 1 << 22


class Model:
    """One instance serves one worker process."""

    def initialize(self):
        """Runs in the worker: what is made here is its own, not the fork server's."""
        # Every element differs from its neighbours, and a small factor times it is exact.
        self.source = numpy.arange(LENGTH, dtype=numpy.float32) % 251
        self.result = numpy.ones_like(self.source)
        self.copy = None

    def first(self, *, x):
        """Returns an array's first element."""
        return x[0]

    def sum(self, *, x):
        """Sums an array. Without one: the copy of the first that came, and how long that took."""
        if x is None:
            begun = perf_counter()
            total = self.copy.sum()
            return perf_counter() - begun, total
        if self.copy is None:
            self.copy = x.copy()
        return x.sum()

    def scaled(self, *, factor, out):
        """Writes an array, into `out` if that is offered, and returns how long it took, and the array."""
        target = self.result if out is None else out
        begun = perf_counter()
        numpy.multiply(self.source, factor, out=target)
        return perf_counter() - begun, target
