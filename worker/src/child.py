"""What a worker does right after the fork, before the model is constructed."""

import atexit
import sys
import weakref


def disown_cleanup():
    """Leave to the fork server what was registered there.

    A worker that ends must not remove, for instance, the temporary folder that the import made
    for all of them. multiprocessing's children do the same.
    """
    atexit._clear()
    # weakref.finalize has registered itself at its first use and will not do so again; what the
    # worker itself hands to it must still run.
    if weakref.finalize._registered_with_atexit:
        for inherited in list(weakref.finalize._registry):
            inherited.atexit = False
        atexit.register(weakref.finalize._exitfunc)


def reseed_numpy():
    """Give each worker its own random numbers: nobody else does it for numpy's global generator."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
