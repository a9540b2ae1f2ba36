"""Awaited tasks: event loops watch the engine's one descriptor, and are told which tasks are over."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Dict, List, Optional

if TYPE_CHECKING:
    from nearcall.engine import Engine

_PENDING = object()


class Router:
    """The futures of one engine's tasks, of whatever event loops.

    Each loop that has had one watches the descriptor. Whichever looks first hears of all tasks, and passes
    on what is another's. An engine that nobody has any more is not kept by it; one that has tasks which are
    awaited, is.
    """

    def __init__(self, engine: "Engine") -> None:
        self._completions = engine.completions()
        self._futures: Dict[int, List[asyncio.Future[Any]]] = {}
        self._engines: Dict[int, Engine] = {}
        self._loops: "weakref.WeakSet[asyncio.AbstractEventLoop]" = weakref.WeakSet()

    def future(self, engine: "Engine", key: int) -> "asyncio.Future[Any]":
        """A future of the running loop's for this task's answer."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            loop.add_reader(self._completions.fileno(), self._dispatch, loop)
            self._loops.add(loop)
        future = loop.create_future()
        self._engines[key] = engine
        self._futures.setdefault(key, []).append(future)
        try:
            if engine.notify(key):
                self._finish(key)
        except BaseException:
            self.forget(key, future)
            raise
        return future

    def forget(self, key: int, future: "asyncio.Future[Any]") -> None:
        """Nobody awaits this future any more."""
        futures = self._futures.get(key)
        if futures is not None:
            if future in futures:
                futures.remove(future)
            if not futures:
                self._futures.pop(key, None)
                self._engines.pop(key, None)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        keys = self._completions.dispatch()
        if keys is None:
            loop.remove_reader(self._completions.fileno())
            self._loops.discard(loop)
            return
        for key in keys:
            self._finish(key)

    def _finish(self, key: int) -> None:
        """Takes the outcome, and tells all who await it."""
        engine = self._engines.pop(key, None)
        futures = self._futures.pop(key, [])
        if engine is None:
            return
        answer: Any = None
        error: Optional[Exception] = None
        try:
            answer = engine.retrieve(key, _PENDING)
        except Exception as problem:
            # The engine's own, or that an answer could not be made an object: it is the awaiter's.
            error = problem
        if answer is _PENDING:
            # Said too early, which the door does not; but nobody shall wait for ever.
            self._engines[key] = engine
            self._futures[key] = futures
            engine.notify(key)
            return
        for future in futures:
            loop = future.get_loop()
            if loop is asyncio._get_running_loop():
                _settle(future, answer, error)
            else:
                try:
                    loop.call_soon_threadsafe(_settle, future, answer, error)
                except RuntimeError:
                    # That loop was closed: nobody awaits anything there, and others still do here.
                    pass


def _settle(future: "asyncio.Future[Any]", answer: Any, error: Optional[Exception]) -> None:
    if future.done():
        # It was cancelled meanwhile.
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
