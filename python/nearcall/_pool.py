"""The engine behind an ``Executor``, its futures, and the thread that serves those who do not wait.

A future's outcome is taken from the engine by whoever asks for it first: a thread in ``result()`` waits for
the engine itself, and no other thread has to run for it. Who wants to be told instead (``wait``,
``as_completed``, callbacks), or has submitted more than the engine holds, is served by the pump: a thread
that sleeps until a task is over for which that was asked.

# Invariants
A task is in exactly one of these: the queue (its future has no key), ``outstanding`` (it has one), or nowhere
(the future is done, or is about to be by the thread that took the outcome). The engine gives an outcome once;
who comes too late waits for the future like anybody else.
"""

from __future__ import annotations

import collections
import os
import pickle
import select
import threading
import weakref
from concurrent.futures import Future, InvalidStateError, TimeoutError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, LOGGER, PENDING
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from nearcall import errors
from nearcall.engine import Engine

_PENDING = object()
_OVER = (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED)


class WorkerDied(errors.WorkerDied, BrokenProcessPool):
    """The worker that ran the task died. Only this task has failed: the executor goes on."""

    __module__ = "nearcall.executor"


#: Held while a future gets its condition, and while one is done that has none.
_birth = threading.Lock()


class TaskFuture(Future):  # type: ignore[type-arg]
    """A future whose ``result()`` waits for the engine itself.

    What the base class makes for each future is made here when somebody looks at it: most futures are done
    by the thread that asks for their result, and nobody else ever needs their condition.
    """

    #: The base class' own, as they are at first.
    _state = PENDING
    _result: Any = None
    _exception: Optional[BaseException] = None
    _told: List[Any]
    _done_callbacks: List[Any]
    #: 0 while the engine does not have the task.
    _key = 0
    _is_armed = False

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        """What is not there yet."""
        attributes = self.__dict__
        if name == "_condition":
            with _birth:
                return attributes.setdefault(name, threading.Condition())
        if name in ("_told", "_done_callbacks"):
            return attributes.setdefault(name, [])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # `wait` and `as_completed` put whom they want told in here, and nowhere else.
    @property
    def _waiters(self) -> "List[Any]":  # type: ignore[override]
        if self._state == PENDING:
            self._arm()
        return self._told

    def _be_done(self, result: Any) -> None:
        """What ``set_result`` does, for a future that may have no condition: then nobody waits for it."""
        with _birth:
            if "_condition" not in self.__dict__:
                self._result = result
                self._state = FINISHED
                return
        self.set_result(result)

    def _arm(self) -> None:
        """Has the pump deliver the outcome."""
        if self._key and not self._is_armed:
            self._is_armed = True
            self._pool.deliver_later(self._key)

    def add_done_callback(self, fn: "Callable[[Future[Any]], Any]") -> None:
        super().add_done_callback(fn)
        if self._state == PENDING:
            self._arm()

    def result(self, timeout: Optional[float] = None) -> Any:
        if self._state == PENDING and self._key:
            self._take(timeout)
        if self._state == FINISHED and self._exception is None:
            return self._result
        return super().result(timeout)

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        if self._state == PENDING and self._key:
            self._take(timeout)
        return super().exception(timeout)

    def done(self) -> bool:
        if self._state == PENDING and self._key:
            self._take_now()
        return super().done()

    def running(self) -> bool:
        """Whether the task was handed to the workers and is not done; it may still wait for one."""
        return self._key != 0 and not self.done()

    def cancel(self) -> bool:
        """Cancels the task if no worker has begun it."""
        with self._condition:
            if self._state == PENDING and self._key:
                if not self._pool.engine.cancel_waiting(self._key):
                    return False
                self._pool.forget(self._key)
            if self._state == FINISHED:
                return False
            if self._state != PENDING:
                return True
            self._state = CANCELLED
            # Nobody else would tell those who wait.
            self.set_running_or_notify_cancel()
            self._condition.notify_all()
        # Without the lock: they may wait for a thread that looks at this future.
        self._invoke_callbacks()
        self._pool.wake()
        return True

    def _take(self, timeout: Optional[float]) -> None:
        """Waits for the outcome and takes it, if no other thread does."""
        # An interrupt (`KeyboardInterrupt`) that comes while this waits is raised as soon as Python code
        # goes on. By then the outcome must not be this thread's alone: it goes from the engine to the list
        # without a step of Python's between, and `finally` has it reach the future.
        taken: List[Any] = []
        try:
            taken.extend(map(self._pool.engine.wait, (self._key,), (timeout,)))
        except errors.TimedOut:
            raise TimeoutError() from None
        except errors.AlreadyRetrieved:
            return
        except errors.Error as error:
            try:
                self._fail(error)
            except BaseException:
                # It was interrupted before it began; it can be done twice.
                self._fail(error)
                raise
        except BaseException as error:
            if not taken:
                self._interrupted(error)
            raise
        finally:
            if taken:
                self._succeed(taken[0])

    def _interrupted(self, error: BaseException) -> None:
        """The wait has ended by this. If it came while the engine's own error was made an exception, that
        was the outcome, and it is lost: then this is the outcome."""
        try:
            # An error, if the engine does not have it any more.
            self._pool.engine.notify(self._key)
            return
        except errors.Error:
            pass
        with self._condition:
            # Another thread may have taken it, and is about to say so.
            if not self._condition.wait_for(lambda: self._state != PENDING, 1.0):
                self._pool.settled(self._key)
                self.set_exception(error)

    def _take_now(self) -> bool:
        """Takes the outcome if it is there; as above, interrupts do not lose it. Whether it is still to come."""
        taken: List[Any] = []
        try:
            taken.extend(map(self._pool.engine.retrieve, (self._key,), (_PENDING,)))
        except errors.AlreadyRetrieved:
            return False
        except errors.Error as error:
            try:
                self._fail(error)
            except BaseException:
                self._fail(error)
                raise
            return False
        finally:
            if taken and taken[0] is not _PENDING:
                self._succeed(taken[0])
        return bool(taken) and taken[0] is _PENDING

    def _succeed(self, answer: Any) -> None:
        try:
            self._pool.settled(self._key)
            try:
                result = pickle.loads(answer if type(answer) is bytes else answer[0])
            except Exception as error:
                self.set_exception(error)
                return
            if type(answer) is bytes:
                self._be_done(result)
            else:
                self.set_exception(result)
        except BaseException as error:
            # Also what interrupts this thread: the outcome is taken, and others may wait for it.
            if self._state == PENDING:
                self.set_exception(error)
            raise

    def _fail(self, error: errors.Error) -> None:
        self._pool.settled(self._key)
        if isinstance(error, errors.WorkerDied):
            died = WorkerDied(*error.args)
            died.__dict__.update(error.__dict__)
            error = died
        with self._condition:
            # Who has cancelled the future holds the lock until it says so.
            is_over = self._state in _OVER
        # Without the lock, for callbacks' sake: the outcome is this thread's, nobody else sets it.
        if not is_over:
            self.set_exception(error)


class Pool:
    """An engine that runs pickled calls."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._submit = engine._submit_bytes
        #: The futures of the tasks that the engine has, by key.
        self.outstanding: Dict[int, TaskFuture] = {}
        self._queue: Deque[Tuple[TaskFuture, bytes, bytes]] = collections.deque()
        #: Keys of tasks that were over when the pump was to be told of them.
        self._ready: List[int] = []
        self._lock = threading.Lock()
        self._pump: Optional[_Pump] = None
        self._is_closing = False
        #: The pump has gone, or is about to: nobody looks at the queue any more.
        self._has_ended = False
        self.is_forked = False
        _pools.add(self)

    def submit(self, future: TaskFuture, function: bytes, task: bytes) -> None:
        """Hands a task to the engine, or puts it off until there is room."""
        if not self._queue:
            try:
                key = self._submit(function, task)
            except errors.Full:
                pass
            else:
                # In this order: who finds it in there, to cancel it, sees that the engine has it.
                future._key = key
                self.outstanding[key] = future
                if self._queue:
                    # Others were put off meanwhile, and the pump has not seen this one.
                    self.wake()
                return
        if self.is_forked:
            raise forked()
        with self._lock:
            if self._has_ended:
                raise errors.Closed("the executor was shut down")
            self._queue.append((future, function, task))
        self._start_pump()

    def settled(self, key: int) -> None:
        """The outcome of this task was taken: there is room for another."""
        self.outstanding.pop(key, None)
        if self._queue or self._is_closing:
            self.wake()

    def deliver_later(self, key: int) -> None:
        """Has the pump deliver this task's outcome when it is over."""
        self._start_pump()
        try:
            if not self.engine.notify(key):
                return
        except errors.Error:
            # Whoever retrieves it is told why.
            pass
        self._ready.append(key)
        self.wake()

    def forget(self, key: int) -> None:
        """The task was cancelled: its slot is free again."""
        self.outstanding.pop(key, None)
        self.engine.abandon(key)

    def wake(self) -> None:
        """Has the pump look around."""
        pump = self._pump
        if pump is not None:
            pump.wake()

    def _start_pump(self) -> None:
        if self._pump is None:
            with self._lock:
                if self._pump is None:
                    pump = _Pump(self)
                    pump.start()
                    self._pump = pump
        self.wake()

    def close(self, cancel: bool, wait: bool, at_exit: bool = False) -> None:
        """Ends the engine once all tasks are done."""
        if self.is_forked:
            return
        if cancel:
            for future, _, _ in list(self._queue):
                future.cancel()
            for future in list(self.outstanding.values()):
                future.cancel()
        self._is_closing = True
        if self._pump is None and (at_exit or not self.outstanding):
            # In this thread: an interpreter that ends starts no others.
            self._pump = _Pump(self)
            self._pump.run()
            return
        self._start_pump()
        thread = self._pump.thread if self._pump is not None else None
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    # The pump's own.

    def deliver(self, keys: List[int]) -> None:
        """Takes the outcomes of these tasks, and of those that were over before."""
        while self._ready:
            keys.append(self._ready.pop())
        for key in keys:
            future = self.outstanding.get(key)
            if future is not None:
                try:
                    is_to_come = future._take_now()
                except BaseException as error:
                    # One that is no `Exception`: from what was unpickled (the future has it), or from a
                    # callback. It ends neither this thread, nor what others wait for.
                    if future._exception is error:
                        continue
                    if threading.current_thread() is threading.main_thread():
                        raise
                    LOGGER.exception("a callback of %r has raised", future)
                    continue
                if is_to_come:
                    # Told too early, which the engine does not do; but nobody shall wait for ever.
                    future._is_armed = False
                    future._arm()

    def fill(self) -> None:
        """Hands the engine what was put off, as far as there is room."""
        while self._queue:
            future, function, task = self._queue[0]
            failed: Optional[errors.Error] = None
            with future._condition:
                if future._state == PENDING:
                    try:
                        key = self._submit(function, task)
                    except errors.Full:
                        break
                    except errors.Error as error:
                        failed = error
                    else:
                        future._key = key
                        self.outstanding[key] = future
                        # Whoever waits for it waits for the future: it had no key.
                        future._arm()
            self._queue.popleft()
            if failed is not None:
                # Without the lock, for callbacks' sake; so it may have been cancelled meanwhile.
                try:
                    future.set_exception(failed)
                except InvalidStateError:
                    pass
        if self._queue or self._is_closing:
            # What nobody asks for takes the room of others, or keeps the end waiting.
            for future in list(self.outstanding.values()):
                future._arm()

    def fail(self) -> None:
        """The engine is over: so is everything else."""
        self._is_closing = True
        with self._lock:
            self._has_ended = True
        self.deliver(list(self.outstanding))
        self.fill()

    def is_finished(self) -> bool:
        """Whether nothing is left to be done, and nothing can come."""
        if not self._is_closing or self.outstanding:
            return False
        with self._lock:
            self._has_ended = not self._queue
            return self._has_ended

    def disown(self) -> None:
        """This process was forked from the one that has the engine."""
        self.is_forked = True
        # Locks that another thread of the parent's may have held; and the parent's own business.
        self._lock = threading.Lock()
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.guard = threading.RLock()
            pump.close()
        for future in [*self.outstanding.values(), *(queued[0] for queued in self._queue)]:
            future._condition = threading.Condition()
            future._told = []
            future._done_callbacks = []
            if future._state == PENDING:
                future.set_exception(forked())
        self.outstanding.clear()
        self._queue.clear()


class _Pump:
    """Delivers outcomes to those who do not wait for the engine, and refills it."""

    def __init__(self, pool: Pool) -> None:
        #: Whose it is; at the end of the interpreter, nobody's.
        self.thread: Optional[threading.Thread] = None
        self._pool = pool
        self._completions = pool.engine.completions()
        #: Held while the pipe is written to or closed: a number that was closed may be another file's.
        #: (Garbage that is collected in there may have this pump woken, too.)
        self.guard = threading.RLock()
        self._awake, self._alarm = os.pipe()
        for end in (self._awake, self._alarm):
            os.set_blocking(end, False)
        self._poll = select.poll()
        self._poll.register(self._completions.fileno(), select.POLLIN)
        self._poll.register(self._awake, select.POLLIN)

    def start(self) -> None:
        self.thread = threading.Thread(target=self.run, name="nearcall-pump", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        with self.guard:
            if self._alarm < 0:
                # It has ended: there is nothing to look for.
                return
            try:
                os.write(self._alarm, b"\0")
            except BlockingIOError:
                # It is full: the pump is about to look.
                pass

    def run(self) -> None:
        pool = self._pool
        pool.fill()
        while not pool.is_finished():
            self._poll.poll()
            try:
                os.read(self._awake, 4096)
            except BlockingIOError:
                pass
            keys = self._completions.dispatch()
            if keys is None:
                pool.fail()
                break
            pool.deliver(keys)
            pool.fill()
        pool.engine.shutdown()
        self.close()

    def close(self) -> None:
        with self.guard:
            alarm, self._alarm = self._alarm, -1
            if alarm >= 0:
                os.close(alarm)
                os.close(self._awake)


#: All that are not closed.
_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def forked() -> errors.ForkedChild:
    """What everything says in a forked child."""
    error = errors._make("forked_child", "this process was forked from the one that has the executor", {})
    assert isinstance(error, errors.ForkedChild)
    return error


def _disown_all() -> None:
    global _birth
    _birth = threading.Lock()
    for pool in list(_pools):
        pool.disown()


os.register_at_fork(after_in_child=_disown_all)
