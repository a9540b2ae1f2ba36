"""Call Python models in worker processes at close to the price of a function call.

``Engine`` serves one model, as nearcall's Rust library does. ``Executor`` runs any function, as
``concurrent.futures.ProcessPoolExecutor`` does. ``driver`` makes a class that submits and retrieves by
key, with flags. See docs/host-python.md.

A worker imports this package too, so it loads little: ``Executor`` and ``driver`` at their first use.
"""

from typing import TYPE_CHECKING, Any

from nearcall._native import VERSION as __version__
from nearcall._native import Ticket, available_cpus
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

if TYPE_CHECKING:
    from nearcall.drivers import Driver, driver
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


def __getattr__(name: str) -> Any:
    if name == "Executor":
        from nearcall import executor

        value: Any = executor.Executor
    elif name in ("Driver", "driver"):
        from nearcall import drivers

        value = getattr(drivers, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
