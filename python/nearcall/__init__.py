"""Call Python models in worker processes at close to the price of a function call.

``Engine`` serves one model, as nearcall's Rust library does. ``Executor`` runs any function, as
``concurrent.futures.ProcessPoolExecutor`` does. ``driver`` makes a class that submits and retrieves by
key, with flags. See docs/host-python.md.

A worker imports this package too, so it loads nothing but the native module; the rest comes at its first
use.
"""

import importlib

from nearcall._native import VERSION as __version__
from nearcall._native import Ticket, available_cpus

#: Not ``typing``'s: its import takes longer than all the rest, in each start of a worker.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from nearcall.drivers import Driver, driver
    from nearcall.engine import Engine, Reload, Shutdown
    from nearcall.errors import (
        AlreadyRetrieved,
        Cancelled,
        Closed,
        Corrupt,
        DeadlinePassed,
        Error,
        ForkedChild,
        Full,
        Mismatch,
        ModelError,
        NoSharedMemory,
        Refused,
        StartError,
        SystemRefused,
        TimedOut,
        TooLarge,
        Unavailable,
        UnknownKey,
        WorkerDied,
    )
    from nearcall.executor import Executor

__all__ = [
    "AlreadyRetrieved",
    "Cancelled",
    "Closed",
    "Corrupt",
    "DeadlinePassed",
    "Driver",
    "Engine",
    "Error",
    "Executor",
    "ForkedChild",
    "Full",
    "Mismatch",
    "ModelError",
    "NoSharedMemory",
    "Refused",
    "Reload",
    "Shutdown",
    "StartError",
    "SystemRefused",
    "Ticket",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "UnknownKey",
    "WorkerDied",
    "__version__",
    "available_cpus",
    "driver",
]


_PLACES = {
    "Driver": "drivers",
    "driver": "drivers",
    "Engine": "engine",
    "Reload": "engine",
    "Shutdown": "engine",
    "Executor": "executor",
}


def __getattr__(name: str) -> "Any":
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module("nearcall." + _PLACES.get(name, "errors"))
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
