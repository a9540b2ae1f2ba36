"""The model of the contract table: each `op` is one thing that a model may do.

What a case has to wait for, or to hold back, are files in a folder of the case's own, so that no
step depends on time: `runs-1` has a line (the process id) for each time that a task was begun with
`x` = 1, and a `gate` ends when there is a file `open-1`.
"""

import os
import signal
import time


class Model:
    def initialize(self, folder):
        self._folder = folder
        self._calls = 0
        if self._exists("broken"):
            raise RuntimeError("as the file says")

    def run(self, *, op, x):
        self._calls += 1
        if op == "echo":
            return x
        if op == "calls":
            # How many tasks this process has had: 1 says that it is a new one.
            return self._calls
        if op == "big":
            return "x" * x
        if op == "gate":
            return self._gate(x)
        if op == "deaf":
            while True:
                try:
                    return self._gate(x)
                except KeyboardInterrupt:
                    pass
        if op == "raise":
            raise ValueError("as asked: %d" % x)
        if op == "raise_exit":
            raise SystemExit(x)
        if op == "unanswerable":
            return {x}
        if op == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if op == "leave":
            os._exit(x)
        raise ValueError("no op %r" % op)

    def _exists(self, name):
        return os.path.exists(os.path.join(self._folder, name))

    def _gate(self, x):
        with open(os.path.join(self._folder, "runs-%d" % x), "ab", buffering=0) as runs:
            runs.write(b"%d\n" % os.getpid())
        while not self._exists("open-%d" % x):
            time.sleep(0.001)
        return x
