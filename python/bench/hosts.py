"""Measures Python hosts beside what they would use otherwise, and writes a report as JSON.

    python hosts.py REPORT.json [--quick]

- `Executor.submit(...).result()` beside `ProcessPoolExecutor`: a function that squares a number.
- The driver beside the seed's own (in $NEARCALL_SEED; else `python/pool_driver.py`, which does the same):
  submit, then retrieve until it is there, of `big_model` without its sleep.

The two of a pair take turns; each turn is some thousand calls of which every answer is checked, and its
figure is the time of one call on average. What is reported is the median of the turns. `scripts/bench-python`
runs it, on an idle machine.
"""

import asyncio
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import platform
import random
import statistics
import sys
import threading
import time
import types

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = HERE.parent
sys.path[:0] = [str(HERE), str(PYTHON / "models")]
SEED = os.environ.get("NEARCALL_SEED", "")

import bench_tasks  # noqa: E402
import big_model  # noqa: E402

import nearcall  # noqa: E402

WORKERS = 2
CAPACITY = 64
THREADS = 16
PAUSE = 0.0


def features(count):
    """Inputs of `big_model`, and their answers."""
    draw = random.Random(3333)
    inputs = [
        {
            "float_features": [draw.uniform(-1000, 1000) for _ in range(2)],
            "str_features": ["x" * draw.randrange(1, 60) for _ in range(3)],
            "int_feature": draw.randrange(10000),
        }
        for _ in range(count)
    ]
    return [(one, big_model.big_model(**one)) for one in inputs]


class Executing:
    """Calls through an executor, one after the other."""

    def __init__(self, make):
        self.executor = make()

    def turn(self, calls):
        submit = self.executor.submit
        began = time.perf_counter_ns()
        for number in range(calls):
            if submit(bench_tasks.square, number).result() != number * number:
                raise ValueError("a wrong answer")
        return (time.perf_counter_ns() - began) / calls

    def close(self):
        self.executor.shutdown()


class Burst(Executing):
    """All calls at once, the answers afterwards."""

    def turn(self, calls):
        submit = self.executor.submit
        began = time.perf_counter_ns()
        futures = [submit(bench_tasks.square, number) for number in range(calls)]
        for number, future in enumerate(futures):
            if future.result() != number * number:
                raise ValueError("a wrong answer")
        return (time.perf_counter_ns() - began) / calls


class Mapping(Executing):
    """`map`, with the chunks that are usual."""

    def turn(self, calls):
        began = time.perf_counter_ns()
        answers = list(self.executor.map(bench_tasks.square, range(calls), chunksize=50))
        took = time.perf_counter_ns() - began
        if answers != [number * number for number in range(calls)]:
            raise ValueError("a wrong answer")
        return took / calls


class Driving:
    """Calls through a driver: one thread submits, and polls until the answer is there."""

    threads = 1

    def __init__(self, make):
        self.driver = make()
        self.tasks = features(1000)

    def one(self, task):
        inputs, answer = task
        while True:
            flag, key, message = self.driver.submit(**inputs)
            if flag == 0:
                break
            if flag != 1:
                raise ValueError(message)
            time.sleep(PAUSE)
        while True:
            flag, value, message = self.driver.retrieve(key)
            if flag == 0:
                break
            if flag != 1:
                raise ValueError(message)
            # Lets others run: the pool's own threads need the lock to bring the answer.
            time.sleep(PAUSE)
        if value != answer:
            raise ValueError("a wrong answer")

    def run(self, first, calls):
        for number in range(first, calls, self.threads):
            self.one(self.tasks[number % len(self.tasks)])

    def turn(self, calls):
        threads = [threading.Thread(target=self.run, args=(n, calls)) for n in range(1, self.threads)]
        began = time.perf_counter_ns()
        for thread in threads:
            thread.start()
        self.run(0, calls)
        for thread in threads:
            thread.join()
        return (time.perf_counter_ns() - began) / calls

    def close(self):
        self.driver.finalize()


class Crowd(Driving):
    """As the seed's program does it: 16 threads share a driver."""

    threads = THREADS


NAMES = {
    "config_json": "{}",
    "float_feature_names": ["value_1", "value_2"],
    "str_feature_names": ["name", "sentence", "id"],
}


def our_driver():
    driver = nearcall.driver("big_model:Engine", "run_big_model")
    return driver(max_tasks=CAPACITY, n_subprocesses=WORKERS).initialize(**NAMES)


def seeds_driver():
    sys.path.append(SEED)
    from py4cc1 import py4cc

    # The model without the time that it spends asleep.
    py4cc.time = types.SimpleNamespace(sleep=lambda seconds: None)
    driver = py4cc.Driver(max_tasks=CAPACITY, n_subprocesses=WORKERS).initialize(**NAMES)
    driver.finalize = lambda: (driver._pool.terminate(), driver._pool.join())
    return driver


class PoolDriver:
    """`pool_driver.Driver` with the seed's signatures, where there is no seed."""

    def __init__(self):
        sys.path.append(str(PYTHON))
        import pool_driver

        self.driver = pool_driver.Driver(WORKERS, CAPACITY, False)
        self.finalize = self.driver.close

    def submit(self, **inputs):
        flag, key = self.driver.submit(inputs)
        return flag, key, ""

    def retrieve(self, key):
        flag, answer = self.driver.retrieve(key)
        return (flag, *answer) if flag == 0 else (flag, -1, answer)


class Calling:
    """The engine itself: for comparison, there is no rival."""

    def __init__(self):
        self.engine = nearcall.Engine(
            "bench_tasks:Model", "square", signature={"x": "int"}, workers=WORKERS
        )

    def turn(self, calls):
        call = self.engine.call
        began = time.perf_counter_ns()
        for number in range(calls):
            if call(x=number) != number * number:
                raise ValueError("a wrong answer")
        return (time.perf_counter_ns() - began) / calls

    def close(self):
        self.engine.shutdown(0)


class Awaiting(Calling):
    """Awaited, one after the other."""

    def turn(self, calls):
        async def main():
            call = self.engine.call_async
            began = time.perf_counter_ns()
            for number in range(calls):
                if await call(x=number) != number * number:
                    raise ValueError("a wrong answer")
            return (time.perf_counter_ns() - began) / calls

        return asyncio.run(main())


class Gathering(Calling):
    """Awaited, 50 at once."""

    def turn(self, calls):
        async def main():
            call = self.engine.call_async
            began = time.perf_counter_ns()
            for first in range(0, calls, 50):
                answers = await asyncio.gather(*[call(x=first + number) for number in range(50)])
                if answers != [(first + number) ** 2 for number in range(50)]:
                    raise ValueError("a wrong answer")
            return (time.perf_counter_ns() - began) / calls

        return asyncio.run(main())


def process_pool():
    # "fork" is its quickest, as the seed's driver has it.
    return concurrent.futures.ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork"))


def our_executor():
    return nearcall.Executor(WORKERS)


def turns(systems, rounds):
    """Each system in turns: (name, system, calls of a turn). Gives the figures of each."""
    figures = {name: [] for name, _, _ in systems}
    for _, system, calls in systems:
        system.turn(max(1, calls // 5))
    for number in range(rounds):
        # Who comes first changes, too.
        for name, system, calls in systems if number % 2 == 0 else systems[::-1]:
            figures[name].append(system.turn(calls))
    return figures


def pair(name, ours, theirs, calls, rounds, target=None):
    """A case with a rival; `calls` are (ours, theirs) for a turn."""
    # The rival first: it forks, and a fork wants no other threads around.
    systems = [("theirs", theirs(), calls[1])]
    try:
        systems.insert(0, ("ours", ours(), calls[0]))
        figures = turns(systems, rounds)
    finally:
        for _, system, _ in systems:
            system.close()
    ours, theirs = (statistics.median(figures[who]) for who in ("ours", "theirs"))
    row = {
        "name": name,
        "ours_ns": round(ours),
        "rival_ns": round(theirs),
        "times_faster": round(theirs / ours, 1),
        "turns": {who: [round(figure) for figure in figures[who]] for who in figures},
    }
    verdict = ""
    if target is not None:
        row.update(target=target, reached=theirs / ours >= target)
        verdict = f"   (target {target}: {'reached' if row['reached'] else 'MISSED'})"
    print(f"{name:<34}{ours / 1000:>10.2f} µs{theirs / 1000:>12.2f} µs{theirs / ours:>9.1f} x{verdict}")
    return row


def alone(name, make, calls, rounds):
    system = make()
    try:
        figures = turns([("ours", system, calls)], rounds)["ours"]
    finally:
        system.close()
    print(f"{name:<34}{statistics.median(figures) / 1000:>10.2f} µs")
    return {"name": name, "ours_ns": round(statistics.median(figures)), "turns": [round(f) for f in figures]}


def main():
    report, *options = sys.argv[1:]
    quick = "--quick" in options
    rounds = 3 if quick else 15
    scale = 10 if quick else 1
    has_seed = os.path.isfile(os.path.join(SEED, "py4cc1", "py4cc.py"))
    rival = seeds_driver if has_seed else PoolDriver
    calls = 5000 // scale, 500 // scale
    print(f"{'a call':<34}{'nearcall':>13}{'rival':>15}")
    rows = [
        pair(
            "Executor.submit().result()",
            lambda: Executing(our_executor),
            lambda: Executing(process_pool),
            calls,
            rounds,
            target=20,
        ),
        pair(
            "Driver, one thread",
            lambda: Driving(our_driver),
            lambda: Driving(rival),
            calls,
            rounds,
            target=20,
        ),
        pair("Driver, 16 threads", lambda: Crowd(our_driver), lambda: Crowd(rival), calls, rounds),
        pair("Executor, all at once", lambda: Burst(our_executor), lambda: Burst(process_pool), calls, rounds),
        pair("Executor.map, chunks of 50", lambda: Mapping(our_executor), lambda: Mapping(process_pool), calls, rounds),
        alone("Engine.call", Calling, calls[0], rounds),
        alone("await Engine.call_async", Awaiting, calls[0], rounds),
        alone("await, 50 at once", Gathering, calls[0], rounds),
    ]
    pathlib.Path(report).write_text(
        json.dumps(
            {
                "python": platform.python_version(),
                "nearcall": nearcall.__version__,
                "cpus": nearcall.available_cpus(),
                "workers": WORKERS,
                "quick": quick,
                "rival_driver": "the seed's" if has_seed else "python/pool_driver.py",
                "rows": rows,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
