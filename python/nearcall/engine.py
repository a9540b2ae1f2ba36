"""An engine for one model: ``nearcall.Engine``."""

from __future__ import annotations

import atexit
import json
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Iterable, Mapping, NamedTuple, Optional, Tuple, Union

from nearcall import _interpreter, _native
from nearcall.errors import Full, TimedOut

if TYPE_CHECKING:
    import asyncio

    from nearcall._awaiting import Router

#: The kind of a parameter: ``"int"``, ``"floats"``, or with a number of items ``("floats", 3)``,
#: ``("floats", 1, 3)``.
Kind = Union[str, Tuple[str, int], Tuple[str, int, int]]

PathLike = Union[str, "os.PathLike[str]"]


class Shutdown(NamedTuple):
    """How a shutdown went."""

    #: Every accepted task was done in time.
    drained: bool
    #: Workers that had to be killed.
    killed: int


class Reload(NamedTuple):
    """How a reload went."""

    #: Workers that were replaced.
    workers: int
    #: Seconds that it took.
    took: float


#: All engines that are not shut down, to be ended before the interpreter is.
_open: "weakref.WeakSet[Engine]" = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for engine in list(_open):
        engine.shutdown(0)


def host_path() -> "list[str]":
    """The folders that this process searches for modules, but for those that any interpreter of its
    environment has by itself: what a worker has to be told."""
    own = tuple(
        # (A program may live beside Python's own: /usr/lib/program.)
        os.path.join(prefix, folder, "python3")
        for prefix in {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
        for folder in ("lib", "lib64")
    )
    folders = (os.path.abspath(folder or os.getcwd()) for folder in sys.path)
    return [folder for folder in dict.fromkeys(folders) if not folder.startswith(own)]


class Engine(_native.Engine):
    """A model in worker processes, ready to be called from any thread.

    ``model`` is ``"module:Class"`` (then ``method`` says what is called) or ``"module:function"``.
    ``signature`` has the names and kinds of its keyword arguments: ``"bool"``, ``"int"``, ``"float"``,
    ``"str"``, lists of them (``"floats"``; ``("floats", 3)``: exactly three; ``("floats", 1, 3)``: one to
    three), and ``"value"`` for anything that an answer can be, numpy arrays too.

    Workers are started from this interpreter, and find the modules that it finds (``python_path`` says
    otherwise). ``python`` names another environment (which has this package too), ``worker`` a
    ``nearcall-worker`` program. Times are in seconds. Everything else is as in the Rust library's
    ``Builder``; what is ``None`` has its default.

    The first, positional argument of ``submit`` and ``call`` is a time limit for the task, the keywords
    are the model's. ``with`` shuts the engine down in the end; so does the end of the interpreter.
    """

    #: Made by the first call that is awaited.
    _router: Optional[Router] = None

    def __new__(
        cls,
        model: str,
        method: Optional[str] = None,
        *,
        signature: Optional[Mapping[str, Kind]] = None,
        init_kwargs: Optional[Mapping[str, Any]] = None,
        workers: Optional[int] = None,
        slots: Optional[int] = None,
        slot_bytes: Optional[int] = None,
        payload_bytes: Optional[int] = None,
        python_path: Optional[Iterable[PathLike]] = None,
        python: Optional[PathLike] = None,
        worker: Optional[PathLike] = None,
        env: Optional[Mapping[str, str]] = None,
        clear_env: bool = False,
        compute_threads: Optional[int] = None,
        start_method: Optional[str] = None,
        start_deadline: Optional[float] = None,
        wait_policy: Optional[str] = None,
        collect_garbage_between_calls: bool = True,
        retries: Optional[int] = None,
        interrupt: Optional[float] = None,
        spare: bool = False,
        hung_after: Optional[float] = None,
        max_tasks: Optional[int] = None,
        max_age: Optional[float] = None,
        max_rss: Optional[int] = None,
        memory_limit: Optional[int] = None,
        descriptor_limit: Optional[int] = None,
        cpu_limit: Optional[int] = None,
    ) -> "Engine":
        if python_path is None:
            # Another environment's workers have their own packages.
            python_path = host_path() if python is None else []
        elif isinstance(python_path, (str, os.PathLike)):
            python_path = [python_path]
        options: "dict[str, Any]" = {
            "method": method,
            "init_kwargs_json": None if init_kwargs is None else json.dumps(dict(init_kwargs)),
            "workers": workers,
            "slots": slots,
            "slot_bytes": slot_bytes,
            "payload_bytes": payload_bytes,
            "python_path": list(python_path),
            "python": sys.executable if python is None else python,
            "worker": worker,
            "worker_from_python": worker is None,
            # Whoever isolates the host, or has its assertions off, means its workers too.
            "interpreter_options": _interpreter.options() if python is None else None,
            "env": None if env is None else list(env.items()),
            "clear_env": clear_env,
            "compute_threads": compute_threads,
            "start_method": start_method,
            "start_deadline": start_deadline,
            "wait_policy": wait_policy,
            "collect_garbage_between_calls": collect_garbage_between_calls,
            "retries": retries,
            "interrupt": interrupt,
            "spare": spare,
            "hung_after": hung_after,
            "max_tasks": max_tasks,
            "max_age": max_age,
            "max_rss": max_rss,
            "memory_limit": memory_limit,
            "descriptor_limit": descriptor_limit,
            "cpu_limit": cpu_limit,
        }
        self = super().__new__(cls, model, dict(signature or {}), options)
        _open.add(self)
        return self

    def shutdown(self, timeout: Optional[float] = None) -> Shutdown:
        """Ends the engine: takes no more tasks, waits for those accepted, at most ``timeout`` seconds;
        then running ones get 0.3 s more, and what still runs is killed. Answers stay to be retrieved.

        In a forked child it does nothing: the engine is the parent's."""
        drained, killed = self._shutdown(timeout)
        _open.discard(self)
        return Shutdown(drained, killed)

    def reload(self, timeout: Optional[float] = None) -> Reload:
        """Replaces all workers by such that have the model's code as it is now on disk. No task fails
        for it."""
        return Reload(*self._reload(timeout))

    # Awaited: for any event loop of asyncio's.

    def _awaited(self, key: int) -> "tuple[Router, asyncio.Future[Any]]":
        router = self._router
        if router is None:
            from nearcall._awaiting import Router

            router = self._router = Router(self)
        return router, router.future(self, key)

    async def call_async(self, timeout: Optional[float] = None, /, **arguments: Any) -> Any:
        """What ``call`` does, awaited. Who is cancelled gives the task up: one that waits for a worker is
        never run, one that runs, runs to its end."""
        key = self.submit_key(timeout, **arguments)
        try:
            router, future = self._awaited(key)
            try:
                return await future
            finally:
                router.forget(key, future)
        finally:
            # Of a task whose outcome was taken nothing is left to give up.
            self.abandon(key)

    async def wait_async(self, task: "Union[_native.Ticket, int]", timeout: Optional[float] = None) -> Any:
        """What ``wait`` does, awaited: after ``TimedOut``, and when it is cancelled, the task goes on."""
        import asyncio

        key = task if isinstance(task, int) else task.key
        router, future = self._awaited(key)
        try:
            if timeout is None:
                return await future
            done, _ = await asyncio.wait([future], timeout=timeout)
            if not done:
                raise TimedOut("no answer in time; the task goes on")
            return future.result()
        finally:
            router.forget(key, future)

    async def submit_async(
        self, timeout: Optional[float] = None, /, **arguments: Any
    ) -> _native.Ticket:
        """What ``submit`` does; but where all slots are taken, it waits until one is free."""
        import asyncio

        pause = 0.001
        while True:
            try:
                return self.submit(timeout, **arguments)
            except Full:
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.02)

    async def __aenter__(self) -> "Engine":
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self.shutdown, 0)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown(0)
