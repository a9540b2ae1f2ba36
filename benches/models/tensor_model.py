"""What the case `tensors` calls. Apart from `bench_model`, because it needs numpy."""

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
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
        self.copies = None

    def first(self, *, x):
        """Returns an array's first element."""
        return x[0]

    def sum(self, *, x, copy):
        """Sums an array. Without one: a copy of the first that came, and how long that took."""
        if x is None:
            array = self.copies[copy]
            begun = perf_counter()
            total = array.sum()
            return perf_counter() - begun, total
        if self.copies is None:
            # numpy asks the kernel for huge pages; shared memory seldom has any.
            small = mmap(-1, x.nbytes, MAP_PRIVATE | MAP_ANONYMOUS)
            self.copies = x.copy(), numpy.frombuffer(small, dtype=x.dtype)
            numpy.copyto(self.copies[1], x)
        return x.sum()

    def scaled(self, *, factor, out):
        """Writes an array, into `out` if that is offered, and returns how long it took, and the array."""
        target = self.result if out is None else out
        begun = perf_counter()
        numpy.multiply(self.source, factor, out=target)
        return perf_counter() - begun, target
