"""What goes wrong, as exceptions. Each has a ``code``: the same word in every language of a host."""

from __future__ import annotations

from typing import Any, Optional

__all__ = [
    "AlreadyRetrieved",
    "Cancelled",
    "Closed",
    "Corrupt",
    "DeadlinePassed",
    "Error",
    "ForkedChild",
    "Full",
    "Mismatch",
    "ModelError",
    "NoSharedMemory",
    "Refused",
    "StartError",
    "SystemRefused",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "UnknownKey",
    "WorkerDied",
]


class Error(Exception):
    """Any error of the engine's. ``code`` says which."""

    code: str = "error"

    def __init__(self, message: str = "", *, code: Optional[str] = None, **details: Any) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.__dict__.update(details)

    def __reduce__(self) -> Any:
        # Pickled with its details: an error may cross processes like any other.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: "type[Error]", args: Any, state: Any) -> Error:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class StartError(Error, RuntimeError):
    """The engine could not start; nothing is left of it. ``kind`` is one word for the reason."""

    code = "start"
    kind: str = "system"
    #: Python's traceback, if the model's import or ``initialize`` raised.
    traceback: Optional[str] = None


class Full(Error):
    """All slots are taken: try again later."""

    code = "full"


class Mismatch(Error, TypeError):
    """The arguments do not fit the signature."""

    code = "mismatch"


class TooLarge(Error, ValueError):
    """The task is larger than any can be."""

    code = "too_large"


class NoSharedMemory(Error, MemoryError):
    """There is no shared memory left."""

    code = "no_shared_memory"


class SystemRefused(Error, OSError):
    """The system refused something."""

    code = "system"


class Closed(Error):
    """The engine was shut down, or has given up."""

    code = "closed"


class Unavailable(Error):
    """No worker can be had at the moment."""

    code = "unavailable"


class ForkedChild(Error):
    """The engine is the parent's of this process: start another one here, after the fork."""

    code = "forked_child"


class TimedOut(Error, TimeoutError):
    """The wait's time is up; the task goes on."""

    code = "timed_out"


class DeadlinePassed(Error, TimeoutError):
    """The task was not done by its deadline, and was ended."""

    code = "deadline_passed"


class ModelError(Error):
    """The model raised. The message is that of the exception, after its type."""

    code = "python"
    #: The exception's type: its qualified name, with its module unless that is ``builtins``.
    kind: str = ""
    #: ``str(exception)``.
    message: str = ""
    #: As Python prints it, in the worker.
    traceback: str = ""

    def __str__(self) -> str:
        return self.traceback or super().__str__()


class Refused(Error):
    """The model returned what an answer cannot carry."""

    code = "refused"


class WorkerDied(Error):
    """The worker that ran the task died; the task may have run in part."""

    code = "died"
    pid: int = 0
    #: How it ended, in words.
    exit: str = ""
    out_of_memory: Optional[bool] = None
    killed_for: Optional[str] = None
    #: The last that it wrote to its stderr.
    last_words: str = ""
    #: Pids and ends of the workers that died of the same task before.
    earlier: "list[tuple[int, str]]" = []


class Cancelled(Error):
    """Somebody has cancelled the task."""

    code = "cancelled"


class Corrupt(Error):
    """A worker has written what no worker writes."""

    code = "corrupt"


class AlreadyRetrieved(Error, LookupError):
    """The answer was retrieved before, or the task was given up."""

    code = "already_retrieved"


class UnknownKey(Error, LookupError):
    """This engine never gave that key."""

    code = "unknown"


_CLASSES: "dict[str, type[Error]]" = {
    kind.code: kind
    for kind in (
        StartError,
        Full,
        Mismatch,
        TooLarge,
        NoSharedMemory,
        SystemRefused,
        Closed,
        Unavailable,
        ForkedChild,
        TimedOut,
        DeadlinePassed,
        ModelError,
        Refused,
        WorkerDied,
        Cancelled,
        Corrupt,
        AlreadyRetrieved,
        UnknownKey,
    )
}

_START_ANEW = (
    "start an engine in the child, after the fork (gunicorn: in post_fork, or in the application without "
    "preload_app; multiprocessing: in the worker's initializer)"
)


def _make(code: str, message: str, details: "dict[str, Any]") -> Error:
    """What the native module raises."""
    if code == ForkedChild.code:
        message = message.split(":")[0] + ": " + _START_ANEW
    kind = _CLASSES.get(code)
    if kind is None:
        return Error(message, code=code, **details)
    message_of_model = details.pop("message", None)
    error = kind(message, **details)
    if message_of_model is not None:
        error.__dict__["message"] = message_of_model
    return error
