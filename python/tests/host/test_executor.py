"""`nearcall.Executor`: what `concurrent.futures` promises, and where it differs."""

import concurrent.futures as futures
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback

import executor_tasks as tasks
import pytest
from conftest import HERE, PATIENCE, wait_until

import nearcall
from nearcall.executor import WorkerDied


def executor(max_workers=1, **settings):
    return nearcall.Executor(max_workers, **settings)


def test_results_exceptions_and_keywords_come_back():
    with executor() as ex:
        assert ex.engine is None, "workers start with the first task"
        assert ex.submit(tasks.square, 7).result(PATIENCE) == 49
        assert ex.submit(tasks.add, 1, b=2, c=3).result(PATIENCE) == 6
        assert ex.submit(int, "7").result(PATIENCE) == 7
        assert ex.submit(tasks.pid).result(PATIENCE) in ex.engine.worker_pids()
        with pytest.raises(ZeroDivisionError, match="why") as raised:
            ex.submit(tasks.raise_it, ZeroDivisionError("why")).result(PATIENCE)
        assert type(raised.value.__cause__) is _RemoteTraceback
        assert "in raise_it" in str(raised.value.__cause__)
        error = ex.submit(tasks.raise_it, SystemExit(3)).exception(PATIENCE)
        assert isinstance(error, SystemExit)
        assert ex.submit(tasks.square, 2).exception(PATIENCE) is None


def test_each_call_has_the_function_that_it_was_given():
    with executor(2) as ex:

        def alternate(first, second):
            for n in range(100):
                if ex.submit(first, n).result(PATIENCE) != first(n):
                    wrong.append(first)
                if ex.submit(second, n).result(PATIENCE) != second(n):
                    wrong.append(second)

        wrong = []
        kinds = [(tasks.square, tasks.negate), (tasks.negate, str), (float, tasks.square)]
        threads = [threading.Thread(target=alternate, args=kind) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not wrong


def test_what_a_function_has_with_it_is_new_in_each_call():
    with executor(1) as ex:
        for _ in range(3):
            counter = tasks.Counting()
            assert ex.submit(counter, 5).result(PATIENCE) == 5
            assert ex.submit(counter.add, 5).result(PATIENCE) == 5
            assert ex.submit(counter.is_the_same, counter).result(PATIENCE)
            assert ex.submit([1].__len__).result(PATIENCE) == 1
            assert ex.submit([1, 2].__len__).result(PATIENCE) == 2


def test_what_cannot_be_pickled_fails_its_future_alone():
    with executor() as ex:
        assert ex.submit(lambda: 1).exception(PATIENCE) is not None
        assert "lambda" in str(ex.submit(tasks.unpicklable).exception(PATIENCE))
        assert isinstance(ex.submit(tasks.raise_stubborn).exception(PATIENCE), TypeError)
        assert ex.submit(tasks.square, 3).result(PATIENCE) == 9


def test_a_workers_death_fails_its_task_alone():
    with executor() as ex:
        for code in (None, 3):
            died = ex.submit(tasks.die, code)
            waiting = ex.submit(tasks.square, 4)
            with pytest.raises(WorkerDied) as raised:
                died.result(PATIENCE)
            assert isinstance(raised.value, (BrokenProcessPool, nearcall.WorkerDied))
            assert raised.value.pid > 0
            assert waiting.result(PATIENCE) == 16


def test_submit_never_waits_and_everything_is_done_in_the_end(tmp_path):
    gate = str(tmp_path / "gate")
    with executor(2, slots=2) as ex:
        held = [ex.submit(tasks.wait_for, gate) for _ in range(2)]
        rest = [ex.submit(tasks.square, n) for n in range(500)]
        assert not any(future.done() for future in held + rest)
        assert not rest[-1].running() and held[0].running()
        with pytest.raises(futures.TimeoutError):
            rest[-1].result(0.05)
        with pytest.raises(futures.TimeoutError):
            held[0].result(0.05)
        open(gate, "w").close()
        assert [future.result(PATIENCE) for future in rest] == [n * n for n in range(500)]
        assert ex.engine.in_use <= 2


@pytest.mark.parametrize("slots", [1, 3, 256])
def test_nobody_has_to_ask_for_results_to_make_room(slots):
    with executor(2, slots=slots) as ex:
        told = []
        for n in range(300):
            ex.submit(tasks.square, n).add_done_callback(lambda future: told.append(future.result()))
        last = ex.submit(tasks.square, 1000)
        assert last.result(PATIENCE) == 1_000_000
        wait_until(lambda: len(told) == 300, "all are told")
        assert sorted(told) == [n * n for n in range(300)]
        # Dropped, and done all the same.
        for n in range(300):
            ex.submit(tasks.square, n)
        assert ex.submit(tasks.square, 5).result(PATIENCE) == 25


def test_wait_and_as_completed_are_told_of_each_once():
    with executor(2, slots=4) as ex:
        all_of_them = [ex.submit(tasks.square, n) for n in range(100)]
        seen = list(futures.as_completed(all_of_them, PATIENCE))
        assert len(seen) == 100 and set(seen) == set(all_of_them)
        again = list(futures.as_completed(all_of_them, PATIENCE))
        assert len(again) == 100
        more = [ex.submit(tasks.square, n) for n in range(50)]
        done, left = futures.wait(more, PATIENCE)
        assert len(done) == 50 and not left
        one = ex.submit(tasks.raise_it, ValueError())
        done, _ = futures.wait([one], PATIENCE, return_when=futures.FIRST_EXCEPTION)
        assert done == {one}


def test_results_that_are_there_are_seen_without_waiting():
    with executor() as ex:
        first = ex.submit(tasks.square, 2)
        ex.submit(tasks.square, 3).result(PATIENCE)
        assert first.done() and not first.running()
        assert futures.wait([first], 0).done or futures.wait([first], PATIENCE).done
        assert first.result(0) == 4


def test_map_gives_results_in_order_and_raises_in_order():
    with executor(2) as ex:
        for chunksize in (1, 3, 1000):
            assert list(ex.map(tasks.square, range(50), chunksize=chunksize)) == [n * n for n in range(50)]
            assert list(ex.map(tasks.add, [1, 2], [10, 20, 30], chunksize=chunksize)) == [11, 22]
            results = ex.map(divmod, [1, 1, 1], [1, 0, 1], chunksize=chunksize)
            with pytest.raises(ZeroDivisionError):
                list(results)
        with pytest.raises(ValueError, match="chunksize"):
            ex.map(tasks.square, [1], chunksize=0)
        with pytest.raises(futures.TimeoutError):
            list(ex.map(time.sleep, [0, 5], timeout=0.2))


def test_a_future_is_cancelled_until_a_worker_has_begun_it(tmp_path):
    gate = str(tmp_path / "gate")
    with executor(1, slots=3) as ex:
        running = ex.submit(tasks.wait_for, gate)
        wait_until(lambda: os.path.exists(gate + ".runs"), "it runs")
        handed_over = ex.submit(tasks.touch, str(tmp_path / "never"))
        put_off = [ex.submit(tasks.touch, str(tmp_path / "never")) for _ in range(5)]
        kept = ex.submit(tasks.square, 6)
        pids = ex.engine.worker_pids()
        assert not running.cancel()
        told = []
        for future in [handed_over, *put_off]:
            future.add_done_callback(told.append)
            assert future.cancel() and future.cancel() and future.cancelled() and future.done()
            with pytest.raises(futures.CancelledError):
                future.result(PATIENCE)
        assert told == [handed_over, *put_off]
        assert futures.wait([handed_over], PATIENCE).done
        open(gate, "w").close()
        assert kept.result(PATIENCE) == 36 and running.result(PATIENCE) == gate
        assert not kept.cancel() and ex.engine.worker_pids() == pids
    assert not (tmp_path / "never").exists()


def test_cancelled_waiters_are_woken(tmp_path):
    gate = str(tmp_path / "gate")
    with executor(1) as ex:
        ex.submit(tasks.wait_for, gate)
        future = ex.submit(tasks.square, 1)
        seen = []

        def wait():
            try:
                future.result(PATIENCE)
            except BaseException as error:
                seen.append(type(error))

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: future.cancel(), "it waits")
        for thread in threads:
            thread.join(PATIENCE)
        assert seen == [futures.CancelledError] * 3
        open(gate, "w").close()


class Interrupt(BaseException):
    """What a signal's handler raises."""


@pytest.mark.parametrize("task", [tasks.nap, tasks.die_after])
def test_an_interrupt_while_a_result_is_waited_for_does_not_lose_it(task):
    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with executor(1) as ex:
            ex.submit(tasks.square, 1).result(PATIENCE)
            for _ in range(5):
                future = ex.submit(task, 0.02)
                # It comes while the engine is waited for, and is raised when the outcome is there already.
                poke = threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGUSR1))
                with pytest.raises(Interrupt):
                    poke.start()
                    future.result(PATIENCE)
                    poke.join()
                if task is tasks.nap:
                    assert future.result(PATIENCE) == 0.02
                else:
                    assert isinstance(future.exception(PATIENCE), (WorkerDied, Interrupt))
            assert not ex._pool.outstanding, "the end would wait for them"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_result_that_exits_when_it_is_unpickled_ends_nothing_else(caplog):
    with executor(1) as ex:
        futures_ = [ex.submit(tasks.Exits), ex.submit(tasks.square, 2), ex.submit(tasks.square, 3)]
        done, left = futures.wait(futures_, PATIENCE)
        assert len(done) == 3 and not left
        assert isinstance(futures_[0].exception(), SystemExit)

        def exits(_):
            raise SystemExit(7)

        ex.submit(tasks.square, 4).add_done_callback(exits)
        assert futures.wait([ex.submit(tasks.square, 5)], PATIENCE).done
    # The record has the frames of the exception, and these have the executor.
    caplog.clear()


def test_callbacks_of_a_cancelled_future_may_wait_for_threads_that_look_at_it(tmp_path):
    gate = str(tmp_path / "gate")
    with executor(1) as ex:
        ex.submit(tasks.wait_for, gate)
        future = ex.submit(tasks.square, 1)
        seen = []

        def look(future):
            thread = threading.Thread(target=lambda: seen.append(future.cancelled()), daemon=True)
            thread.start()
            thread.join(10)
            seen.append(not thread.is_alive())

        future.add_done_callback(look)
        assert future.cancel()
        open(gate, "w").close()
        assert seen == [True, True]


def test_many_threads_may_wait_for_the_same_future():
    with executor(2) as ex:
        for n in range(50):
            future = ex.submit(tasks.square, n)
            seen = []
            threads = [threading.Thread(target=lambda: seen.append(future.result(PATIENCE))) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert seen == [n * n] * 4


def test_shutdown_waits_or_not_and_can_cancel(tmp_path):
    ex = executor(2, slots=4)
    kept = [ex.submit(tasks.square, n) for n in range(100)]
    ex.shutdown(wait=True)
    assert all(future._state == "FINISHED" for future in kept)
    with pytest.raises(RuntimeError, match="after shutdown"):
        ex.submit(tasks.square, 1)
    ex.shutdown()

    gate = str(tmp_path / "gate")
    ex = executor(1, slots=2)
    held = ex.submit(tasks.wait_for, gate)
    wait_until(lambda: os.path.exists(gate + ".runs"), "it runs")
    rest = [ex.submit(tasks.square, n) for n in range(10)]
    ex.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in rest) and not held.done()
    open(gate, "w").close()
    assert held.result(PATIENCE) == gate

    ex = executor(1)
    late = [ex.submit(tasks.square, n) for n in range(20)]
    ex.shutdown(wait=False)
    assert [future.result(PATIENCE) for future in late] == [n * n for n in range(20)]
    executor(1).shutdown()


def test_shutdown_waits_for_a_result_that_another_thread_is_taking():
    with executor(1) as ex:
        future = ex.submit(tasks.square, 3)
        pool, entered, gate = ex._pool, threading.Event(), threading.Event()
        settled = pool.settled

        def slowly(key):
            entered.set()
            gate.wait(PATIENCE)
            settled(key)

        pool.settled = slowly
        taking = threading.Thread(target=future.result)
        taking.start()
        assert entered.wait(PATIENCE)
        closing = threading.Thread(target=ex.shutdown)
        closing.start()
        # Enough for the pump to look, and to sleep.
        time.sleep(0.1)
        gate.set()
        for thread in (taking, closing):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_a_task_that_somebody_cancels_in_the_engine_ends_its_future(tmp_path):
    gate = str(tmp_path / "gate")
    with executor(1) as ex:
        future = ex.submit(tasks.wait_for, gate)
        waiting = ex.submit(tasks.square, 2)
        for one in (future, waiting):
            assert ex.engine.cancel(one._key)
            with pytest.raises(nearcall.Cancelled):
                one.result(PATIENCE)
            assert one.done() and not one.cancelled()


def test_an_executor_that_is_let_go_of_does_its_tasks(tmp_path):
    ex = executor(1)
    ex.submit(tasks.touch, str(tmp_path / "done"))
    del ex
    wait_until((tmp_path / "done").exists, "it is done")


def test_an_initializer_runs_in_each_worker_and_its_failure_breaks_the_executor():
    with executor(2, initializer=tasks.initialize, initargs=(1, "two")) as ex:
        assert ex.submit(tasks.state).result(PATIENCE) == [(1, "two")]
    with executor(1, initializer=tasks.raise_it, initargs=(LookupError("no"),)) as ex:
        for _ in range(2):
            with pytest.raises(futures.BrokenExecutor, match="no"):
                ex.submit(tasks.square, 1)


def test_settings_are_checked():
    for wrong in (0, -1):
        with pytest.raises(ValueError):
            executor(wrong)
        with pytest.raises(ValueError):
            executor(1, max_tasks_per_child=wrong)
    with pytest.raises(TypeError):
        executor(1, initializer=3)
    with pytest.raises(TypeError), executor(1, no_such_setting=1) as ex:
        ex.submit(tasks.square, 1)


def test_workers_are_replaced_after_so_many_tasks():
    with executor(1, max_tasks_per_child=5) as ex:
        pids = set()
        wait_until(lambda: pids.add(ex.submit(tasks.pid).result(PATIENCE)) or len(pids) > 2, "they are replaced")


def test_large_arguments_and_results_arrive():
    data = os.urandom(3_000_000)
    with executor() as ex:
        assert ex.submit(bytes.upper, data).result(PATIENCE) == data.upper()


def run_script(tmp_path, text, *arguments, **settings):
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        **settings,
    )


def test_functions_of_main_can_be_called(tmp_path):
    (tmp_path / "beside.py").write_text("def double(x): return 2 * x")
    run = run_script(
        tmp_path,
        """
import nearcall, beside
class Point:
    def __init__(self, x): self.x = x
def move(point): return Point(point.x + 1)
print("imported", __name__)
if __name__ == "__main__":
    with nearcall.Executor(1) as ex:
        print(ex.submit(move, Point(1)).result().x, ex.submit(beside.double, 4).result())
""",
        cwd="/",
    )
    assert run.stdout.split() == [b"imported", b"__main__", b"2", b"8"], run.stderr
    assert b"imported __mp_main__" in run.stderr, "what a worker prints goes to stderr"


def test_a_main_without_a_guard_is_told_so(tmp_path):
    run = run_script(
        tmp_path,
        """
import nearcall
def f(): return 1
with nearcall.Executor(1) as ex:
    print(ex.submit(f).result())
""",
    )
    assert run.returncode != 0 and b"freeze_support" in run.stderr


def test_the_end_of_the_interpreter_waits_for_what_was_submitted(tmp_path):
    run = run_script(
        tmp_path,
        """
import sys, executor_tasks, nearcall
if __name__ == "__main__":
    for slots in (1, 64):
        ex = nearcall.Executor(2, slots=slots)
        for n in range(4):
            ex.submit(executor_tasks.touch, f"{sys.argv[1]}-{slots}-{n}")
""",
        str(tmp_path / "done"),
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert run.returncode == 0 and not run.stderr, run.stderr
    assert len(list(pathlib.Path(tmp_path).glob("done-*"))) == 8


def test_nothing_is_submitted_after_the_end_of_the_interpreter(tmp_path):
    run = run_script(
        tmp_path,
        """
import atexit
@atexit.register
def run_last():
    try:
        ex.submit(id, None)
    except RuntimeError as error:
        print(error)
import nearcall
if __name__ == "__main__":
    ex = nearcall.Executor(1)
    ex.submit(id, 42).result()
""",
    )
    assert run.stdout == b"cannot schedule new futures after interpreter shutdown\n", run.stderr
