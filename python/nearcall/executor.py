"""``nearcall.Executor``: any function in worker processes, as ``concurrent.futures`` has it."""

from __future__ import annotations

import atexit
import base64
import concurrent.futures
import functools
import itertools
import json
import multiprocessing.spawn
import os
import pickle
import threading
import types
import weakref
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from nearcall import _pool, _tasks, errors
from nearcall._native import available_cpus
from nearcall._pool import Pool, TaskFuture, WorkerDied
from nearcall.engine import Engine

__all__ = ["Executor", "WorkerDied"]

#: An answer of so many bytes can be carried.
_PAYLOAD_BYTES = 256 << 20


class Executor(concurrent.futures.Executor):
    """A drop-in for ``concurrent.futures.ProcessPoolExecutor``, whose workers are an engine's.

    ``submit`` takes any function, arguments and results that can be pickled, and never waits for a worker:
    what the engine has no room for is put off in this process. The workers start with the first task.

    What is different: the death of a worker fails the task that it ran, with ``WorkerDied`` (which is a
    ``BrokenProcessPool``), and no other; a future counts as running from when it was handed over, and can
    be cancelled until a worker begins it; ``mp_context`` only says whether workers are forked (from a
    process that has imported ``__main__``, not from this one) or spawned; what a worker prints goes to
    stderr; numeric libraries have one thread in each worker (``compute_threads``).

    ``slots`` says how many tasks are handed to the engine at once; further settings are those of
    ``nearcall.Engine``.
    """

    def __init__(
        self,
        max_workers: Optional[int] = None,
        mp_context: Any = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: Tuple[Any, ...] = (),
        *,
        max_tasks_per_child: Optional[int] = None,
        slots: int = 256,
        **settings: Any,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        if mp_context is not None and mp_context.get_start_method() == "spawn":
            settings.setdefault("start_method", "spawn")
        settings.setdefault("payload_bytes", _PAYLOAD_BYTES)
        self._max_workers = available_cpus() if max_workers is None else max_workers
        self._initializer = None if initializer is None else (initializer, initargs)
        self._settings = {**settings, "max_tasks": max_tasks_per_child, "slots": slots}
        self._lock = threading.Lock()
        #: The last function that was pickled by its name, and its pickle: one object, for all threads.
        self._last: Tuple[Any, bytes] = (None, b"")
        self._pool: Optional[Pool] = None
        self._broken: Optional[str] = None
        self._is_shut_down = False
        _executors.add(self)

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> "concurrent.futures.Future[Any]":
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _interpreter_ends:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        pool = self._pool or self._start()
        future = TaskFuture(pool)
        try:
            last, function = self._last
            if fn is last:
                task = pickle.dumps((args, kwargs), pickle.HIGHEST_PROTOCOL)
            else:
                function, task = self._pickle(fn, args, kwargs)
        except Exception as error:
            future.set_exception(error)
            return future
        try:
            pool.submit(future, function, task)
        except errors.TooLarge as error:
            future.set_exception(error)
        except errors.Closed:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown") from None
            raise
        return future

    def _pickle(
        self, fn: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]
    ) -> Tuple[bytes, bytes]:
        """A function and its arguments; apart, if the function is pickled by its name: often it is the
        next one, too."""
        if type(fn) is not types.FunctionType:
            return b"", pickle.dumps((fn, args, kwargs), pickle.HIGHEST_PROTOCOL)
        pickled = pickle.dumps(fn, pickle.HIGHEST_PROTOCOL)
        self._last = fn, pickled
        return pickled, pickle.dumps((args, kwargs), pickle.HIGHEST_PROTOCOL)

    def _start(self) -> Pool:
        if self._broken is not None:
            raise BrokenProcessPool(self._broken)
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._pool is None:
                initializer = None
                if self._initializer is not None:
                    initializer = base64.b64encode(pickle.dumps(self._initializer)).decode()
                # Raises where this process imports its own parent's `__main__`.
                data = multiprocessing.spawn.get_preparation_data("nearcall")
                main = {name: value for name, value in data.items() if name.startswith("init_main")}
                settings = dict(self._settings)
                settings["env"] = {**(settings.get("env") or {}), _tasks.MAIN: json.dumps(main)}
                try:
                    engine = Engine(
                        "nearcall._tasks:Runner",
                        "run",
                        signature={"function": "value", "task": "value"},
                        init_kwargs={"initializer": initializer},
                        workers=self._max_workers,
                        **settings,
                    )
                except errors.StartError as error:
                    self._broken = f"the workers could not start: {error}"
                    raise BrokenProcessPool(self._broken) from error
                self._pool = Pool(engine)
                # Whoever lets go of an executor has its tasks done all the same.
                weakref.finalize(self, self._pool.close, False, False).atexit = False
            return self._pool

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
        **more: Any,
    ) -> "Iterator[Any]":
        """As that of ``ProcessPoolExecutor``: ``chunksize`` calls are one task."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **more)
        chunks = _chunks(zip(*iterables), chunksize)
        results = super().map(functools.partial(_call_all, fn), chunks, timeout=timeout, **more)
        return itertools.chain.from_iterable(results)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks, and ends the workers when all are done; in a forked child, nothing."""
        with self._lock:
            self._is_shut_down = True
            pool = self._pool
        if pool is not None:
            pool.close(cancel_futures, wait)

    @property
    def engine(self) -> Optional[Engine]:
        """The engine behind it; ``None`` before the first task."""
        return None if self._pool is None else self._pool.engine


def _chunks(items: Iterator[Tuple[Any, ...]], size: int) -> Iterator[List[Tuple[Any, ...]]]:
    chunk = list(itertools.islice(items, size))
    while chunk:
        yield chunk
        chunk = list(itertools.islice(items, size))


def _call_all(fn: Callable[..., Any], chunk: List[Tuple[Any, ...]]) -> List[Any]:
    return [fn(*args) for args in chunk]


_executors: "weakref.WeakSet[Executor]" = weakref.WeakSet()


def _free_locks() -> None:
    """In a forked child: another thread of the parent's may have been starting the workers."""
    for executor in list(_executors):
        executor._lock = threading.Lock()


os.register_at_fork(after_in_child=_free_locks)

_interpreter_ends = False


@atexit.register
def _end_all() -> None:
    # Registered after the engine's, and so run before it.
    global _interpreter_ends
    _interpreter_ends = True
    for pool in list(_pool._pools):
        pool.close(False, True, at_exit=True)
