"""Awaited calls, on asyncio's loops."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import executor_tasks as tasks
import pytest
from conftest import MODELS, PATIENCE, wait_until

import nearcall


def start(model, signature={"x": "value"}, **settings):
    settings.setdefault("workers", 1)
    return nearcall.Engine(f"host_models:{model}", signature=signature, **settings)


def run(main):
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


def test_calls_are_awaited_many_at_once():
    async def main():
        async with start("echo", workers=2, slots=64) as engine:
            assert await engine.call_async(x=1) == 1
            answers = await asyncio.gather(*[engine.call_async(x=n) for n in range(64)])
            assert answers == list(range(64)) and engine.in_use == 0
            with pytest.raises(nearcall.Mismatch):
                await engine.call_async()

    run(main())


def test_the_loop_goes_on_while_a_call_is_awaited(tmp_path):
    gate = str(tmp_path / "gate")

    async def main():
        with start("wait_for", {"path": "str"}) as engine:
            call = asyncio.ensure_future(engine.call_async(path=gate))
            while not os.path.exists(gate + ".runs"):
                await asyncio.sleep(0.001)
            assert not call.done()
            open(gate, "w").close()
            assert await call in engine.worker_pids()

    run(main())


def test_errors_are_raised_where_they_are_awaited(tmp_path):
    gate = str(tmp_path / "gate")

    async def main():
        with start("raises") as engine:
            with pytest.raises(nearcall.ModelError, match="in raises"):
                await engine.call_async(x="it")
        with start("die") as engine:
            with pytest.raises(nearcall.WorkerDied):
                await engine.call_async(x="it")
        with start("wait_for", {"path": "str"}, slots=1) as engine:
            with pytest.raises(nearcall.DeadlinePassed):
                await engine.call_async(0.1, path=gate)
            ticket = await engine.submit_async(path=gate)
            with pytest.raises(nearcall.Full):
                await engine.call_async(path=gate)
            with pytest.raises(nearcall.TimedOut):
                await engine.wait_async(ticket, 0.05)
            with pytest.raises(nearcall.TimedOut):
                await engine.wait_async(ticket.key, 0)
            later = asyncio.ensure_future(engine.submit_async(path=gate))
            await asyncio.sleep(0.05)
            assert not later.done(), "it waits for room"
            open(gate, "w").close()
            assert await engine.wait_async(ticket) > 0
            assert await engine.wait_async(await later) > 0
            with pytest.raises(nearcall.AlreadyRetrieved):
                await engine.wait_async(ticket)
            engine.shutdown(0)
            with pytest.raises(nearcall.Closed):
                await engine.call_async(path=gate)

    run(main())


def test_who_is_cancelled_gives_the_task_up(tmp_path):
    gate = str(tmp_path / "gate")

    async def main():
        with start("wait_for", {"path": "str"}, slots=4) as engine:
            running = asyncio.ensure_future(engine.call_async(path=gate))
            while not os.path.exists(gate + ".runs"):
                await asyncio.sleep(0.001)
            never = gate + "-never"
            waiting = asyncio.ensure_future(engine.call_async(path=never))
            kept = await engine.submit_async(path=gate)
            awaited = asyncio.ensure_future(engine.wait_async(kept))
            await asyncio.sleep(0.01)
            for task in (running, waiting, awaited):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            open(gate, "w").close()
            assert await engine.wait_async(kept) > 0, "the wait was cancelled, not the task"
            wait_until(lambda: engine.in_use == 0, "slots are free")
            assert not os.path.exists(never + ".runs")
            assert engine._router._futures == {} and engine._router._engines == {}

    run(main())


def test_several_loops_share_an_engine():
    with start("echo", workers=2, slots=64) as engine:
        wrong = []

        def loop(base):
            async def main():
                for n in range(20):
                    numbers = [base + 4 * n + k for k in range(4)]
                    answers = await asyncio.gather(*[engine.call_async(x=x) for x in numbers])
                    assert answers == numbers

            try:
                run(main())
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=loop, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not wrong and engine.in_use == 0
        # One loop after the other, the first of which is closed.
        for n in range(3):
            assert run(engine.call_async(x=n)) == n


def test_a_loop_that_was_closed_with_calls_awaited_takes_nothing_from_others(tmp_path):
    gate = str(tmp_path / "gate")
    with start("wait_for", {"path": "str"}, workers=4) as engine:
        first = asyncio.new_event_loop()

        async def begin():
            call = asyncio.ensure_future(engine.call_async(path=gate))
            await asyncio.sleep(0.01)
            return call

        left = first.run_until_complete(begin())
        first.close()

        async def main():
            calls = [asyncio.ensure_future(engine.call_async(path=gate)) for _ in range(3)]
            await asyncio.sleep(0.01)
            open(gate, "w").close()
            # All are over before the loop looks: it hears of them at once, of the closed loop's first.
            wait_until(lambda: all(worker["state"] == "idle" for worker in engine.health()["workers"]), "all done")
            assert all(pid > 0 for pid in await asyncio.gather(*calls))

        run(main())
        # Nobody is told that it was destroyed.
        left._log_destroy_pending = False


def test_two_may_await_the_same_task(tmp_path):
    gate = str(tmp_path / "gate")

    async def main():
        with start("wait_for", {"path": "str"}) as engine:
            ticket = engine.submit(path=gate)
            both = [asyncio.ensure_future(engine.wait_async(ticket)) for _ in range(2)]
            await asyncio.sleep(0.01)
            open(gate, "w").close()
            first, second = await asyncio.gather(*both)
            assert first == second

    run(main())


def test_the_shutdown_of_the_engine_ends_what_is_awaited(tmp_path):
    gate = str(tmp_path / "gate")

    async def main():
        engine = start("wait_for", {"path": "str"})
        calls = [asyncio.ensure_future(engine.call_async(path=gate)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await asyncio.get_running_loop().run_in_executor(None, engine.shutdown, 0)
        for call in calls:
            with pytest.raises((nearcall.Closed, nearcall.WorkerDied)):
                await call

    run(main())


def test_an_outcome_that_comes_for_a_cancelled_future_is_dropped():
    from nearcall._awaiting import _settle

    async def main():
        for answer, error in ((1, None), (None, nearcall.Closed("closed"))):
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            # From another loop's thread it comes when it may.
            _settle(future, answer, error)
            assert future.cancelled()

    run(main())


@pytest.mark.parametrize("end", ["shutdown", "drop"])
def test_a_loop_watches_nothing_more_when_the_engine_is_over(end):
    async def main():
        loop = asyncio.get_running_loop()
        before = len(loop._selector.get_map())
        engine = start("echo")
        assert await engine.call_async(x=1) == 1
        assert len(loop._selector.get_map()) == before + 1
        if end == "shutdown":
            engine.shutdown(0)
        del engine
        while len(loop._selector.get_map()) > before:
            await asyncio.sleep(0.001)

    run(main())


def test_an_executor_serves_a_loop():
    async def main():
        loop = asyncio.get_running_loop()
        with nearcall.Executor(2, slots=8) as executor:
            calls = [loop.run_in_executor(executor, tasks.square, n) for n in range(100)]
            assert await asyncio.gather(*calls) == [n * n for n in range(100)]
            with pytest.raises(ZeroDivisionError):
                await loop.run_in_executor(executor, tasks.raise_it, ZeroDivisionError())

    run(main())


def test_a_loop_that_ends_with_calls_awaited_leaves_nothing():
    program = """
import asyncio, nearcall
async def main():
    engine = nearcall.Engine("host_models:wait_for", signature={"path": "str"}, workers=1)
    asyncio.ensure_future(engine.call_async(path="/nowhere/at all"))
    await asyncio.sleep(0.05)
asyncio.run(main())
"""
    began = time.monotonic()
    host = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(MODELS)}, timeout=PATIENCE
    )
    assert host.returncode == 0 and time.monotonic() - began < PATIENCE
