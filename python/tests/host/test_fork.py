"""A forked child of the host: every call is an error that says what to do, and the parent goes on."""

import multiprocessing
import os
import sys
import threading
import traceback
import warnings

import executor_tasks as tasks
import pytest
from conftest import PATIENCE, wait_until

import nearcall


def in_child(test, leave="_exit"):
    """Runs a test in a forked child; leaves it by `os._exit`, or as a program ends."""
    with warnings.catch_warnings():
        # Python 3.12 and later: this process has threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            test()
            status = 0
        except BaseException:
            traceback.print_exc()
        if leave == "_exit" or status:
            os._exit(status)
        # What the interpreter does at its end, without the rest of pytest.
        import atexit

        atexit._run_exitfuncs()
        os._exit(status)
    statuses = []
    wait_until(lambda: statuses.append(os.waitpid(pid, os.WNOHANG)) or statuses[-1][0] == pid, "it ends")
    assert statuses[-1][1] == 0


@pytest.mark.parametrize("leave", ["_exit", "exit functions"])
def test_an_engine_is_the_parents(leave, tmp_path):
    gate = str(tmp_path / "gate")
    with nearcall.Engine("host_models:wait_for", signature={"path": "str"}, workers=1) as engine:
        ticket = engine.submit(path=gate)
        pids = engine.worker_pids()

        def child():
            for call in (
                lambda: engine.submit(path=gate),
                lambda: engine.submit_key(path=gate),
                lambda: engine.call(path=gate),
                lambda: engine.call(1.0, path=gate),
                lambda: engine.wait(ticket),
                lambda: engine.wait(ticket, 0),
                lambda: engine.retrieve(ticket),
                lambda: engine.notify(ticket),
                lambda: engine.reload(1),
            ):
                try:
                    call()
                except nearcall.ForkedChild as error:
                    assert error.code == "forked_child" and "after the fork" in str(error), error
                else:
                    raise AssertionError("no error")
            assert not engine.cancel(ticket) and engine.worker_pids() == [] and engine.health() is None
            engine.abandon(ticket)
            engine.shutdown()
            with engine:
                pass
            # One of the child's own.
            with nearcall.Engine("host_models:nothing", workers=1) as mine:
                assert mine.call(PATIENCE) is None

        in_child(child, leave)
        assert engine.worker_pids() == pids
        open(gate, "w").close()
        assert ticket.wait(PATIENCE) == pids[0]


@pytest.mark.parametrize("leave", ["_exit", "exit functions"])
@pytest.mark.parametrize("slots", [2, 64])
def test_an_executor_is_the_parents(slots, leave, tmp_path):
    gate = str(tmp_path / "gate")
    with nearcall.Executor(1, slots=slots) as ex:
        done = ex.submit(tasks.square, 2)
        assert done.result(PATIENCE) == 4
        told = []
        pending = [ex.submit(tasks.wait_for, gate) for _ in range(5)]
        pending[0].add_done_callback(lambda _: told.append(os.getpid()))

        def child():
            assert done.result() == 4
            for future in pending:
                assert future.done()
                for look in (future.result, future.exception):
                    try:
                        found = look(1)
                    except nearcall.ForkedChild as error:
                        found = error
                    assert "after the fork" in str(found)
            assert not told, "callbacks are the parent's"
            try:
                ex.submit(tasks.square, 3)
            except nearcall.ForkedChild:
                pass
            else:
                raise AssertionError("no error")
            ex.shutdown(wait=True, cancel_futures=True)
            with nearcall.Executor(1) as mine:
                assert mine.submit(tasks.square, 5).result(PATIENCE) == 25

        in_child(child, leave)
        assert not any(future.cancelled() for future in pending)
        open(gate, "w").close()
        assert [future.result(PATIENCE) for future in pending] == [gate] * 5
        wait_until(lambda: told == [os.getpid()], "the parent is told")


def test_a_fork_while_an_executor_starts_does_not_hang_the_child():
    ex = nearcall.Executor(1)

    def child():
        ex.shutdown()

    # As another thread has it while the workers start.
    with ex._lock:
        in_child(child)
    ex.shutdown()


def test_a_fork_while_other_threads_submit_and_wait_harms_nobody():
    with nearcall.Executor(2, slots=4) as ex:
        ex.submit(tasks.square, 1).result(PATIENCE)
        stop = threading.Event()
        wrong = []

        def work():
            n = 0
            while not stop.is_set():
                n += 1
                try:
                    futures = [ex.submit(tasks.square, n + k) for k in range(8)]
                    assert [future.result(PATIENCE) for future in futures] == [(n + k) ** 2 for k in range(8)]
                except BaseException as error:
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()

        def child():
            try:
                ex.submit(tasks.square, 3)
            except nearcall.ForkedChild:
                ex.shutdown()
            else:
                raise AssertionError("no error")

        for _ in range(20):
            in_child(child, "exit functions")
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert not wrong


def child_of_multiprocessing(queue):
    try:
        ENGINE.call()
    except nearcall.Error as error:
        queue.put(error.code)


ENGINE = None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_multiprocessing_by_fork_leaves_the_engine_to_the_parent():
    global ENGINE
    with nearcall.Engine("host_models:nothing", workers=1) as ENGINE:
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=child_of_multiprocessing, args=(queue,))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0 and queue.get() == "forked_child"
        queue.close()
        assert ENGINE.call(PATIENCE) is None
    ENGINE = None
    child.close()
    sys.stdout.flush()
