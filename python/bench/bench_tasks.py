"""What the benchmark has executors call."""


def square(x):
    return x * x


class Model:
    """For an engine: the same call, without a pickle."""

    def square(self, *, x):
        return x * x
