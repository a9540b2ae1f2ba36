"""``python -m nearcall.worker``: this interpreter as a worker of nearcall's.

Engines start it, with the arguments that ``nearcall-worker`` has. By hand it tells its version:
``python -m nearcall.worker --version [--json]``.
"""

import os
import sys

from nearcall import _interpreter, _native


def version() -> str:
    """What ``--version --json`` prints."""
    return _native.worker_version()


def main() -> None:
    """Does what the arguments say, and ends the process."""
    # At once, as the worker that embeds Python ends: what a model has left running, Python's own end
    # could wait for.
    os._exit(_native.worker_main(sys.argv[1:], [sys.executable, *_interpreter.options()]))


if __name__ == "__main__":
    main()
