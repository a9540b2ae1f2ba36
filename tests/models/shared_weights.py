"""Weights that all workers share."""

import os


class Weights:
    """So many MiB as the environment says, made once, before any worker exists."""

    weights = b""

    @classmethod
    def preload(cls):
        """Takes memory that is written to, as loaded weights are."""
        cls.weights = b"\x01" * (int(os.environ["WEIGHTS_MIB"]) << 20)

    def pages(self):
        """Looks at a byte of each page; says how many there are, and in which process."""
        return sum(memoryview(self.weights)[::4096]), os.getpid()
