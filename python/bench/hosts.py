"""Measures Python hosts beside what they would use otherwise, and writes a report as JSON.

    python hosts.py REPORT.json [--quick]

- `Executor.submit(...).result()` beside `ProcessPoolExecutor`: a function that squares a number.
- The driver beside the seed's own (in $NEARCALL_SEED; else `python/pool_driver.py`, which does the same):
  submit, then retrieve until it is there, of `big_model` without its sleep, with the arguments that it has
  in `docs/performance.md`. Between two looks a thread does nothing, or `time.sleep(0)`; each driver has the
  figure of what is better for it. (A pool needs its host's other threads to bring the answer. A sleep of 0
  takes the kernel's timer slack, 50 µs, unless Python skips it.)

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

#: As in benches/src/workload.rs.
TASK = {
    "float_features": [1.1, 11.2, 0.3],
    "str_features": ["abc", "cdavfdv"],
    "int_feature": 27,
}
ANSWER = 49
assert big_model.big_model(**TASK) == ANSWER


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
    """Calls through a driver: each thread submits, and polls until the answer is there."""

    def __init__(self, driver, threads, sleeps):
        self.driver = driver
        self.threads = threads
        self.sleeps = sleeps

    def run(self, calls):
        submit, retrieve, sleeps = self.driver.submit, self.driver.retrieve, self.sleeps
        for _ in range(calls):
            flag = 1
            while flag == 1:
                flag, key, message = submit(**TASK)
                if flag == 1 and sleeps:
                    time.sleep(0)
            value = None
            while flag == 0 and value is None:
                looked, found, message = retrieve(key)
                if looked == 0:
                    value = found
                elif looked == 1:
                    if sleeps:
                        time.sleep(0)
                else:
                    raise ValueError(message)
            if value != ANSWER:
                raise ValueError(f"a wrong answer: {message}")

    def try_to_run(self, calls):
        try:
            self.run(calls)
        except BaseException as error:
            self.failed.append(error)

    def turn(self, calls):
        share = max(1, calls // self.threads)
        self.failed = []
        threads = [threading.Thread(target=self.try_to_run, args=(share,)) for _ in range(self.threads - 1)]
        began = time.perf_counter_ns()
        for thread in threads:
            thread.start()
        self.run(share)
        for thread in threads:
            thread.join()
        if self.failed:
            raise self.failed[0]
        return (time.perf_counter_ns() - began) / (share * self.threads)

    def close(self):
        pass


NAMES = {
    "config_json": "{}",
    "float_feature_names": ["a", "b", "c"],
    "str_feature_names": ["d", "e"],
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


def pair(name, ours, theirs, rounds, target=None):
    """A case with a rival. Each side has a system for each way to use it, with the calls of a turn; the way
    that is best for it counts."""
    systems = [(("ours", way), *rest) for way, rest in ours.items()]
    systems += [(("theirs", way), *rest) for way, rest in theirs.items()]
    figures = turns(systems, rounds)
    for _, system, _ in systems:
        system.close()
    medians = {who: statistics.median(times) for who, times in figures.items()}
    best = {side: min(time for who, time in medians.items() if who[0] == side) for side in ("ours", "theirs")}
    faster = best["theirs"] / best["ours"]
    row = {
        "name": name,
        "ours_ns": round(best["ours"]),
        "rival_ns": round(best["theirs"]),
        "times_faster": round(faster, 1),
        "medians_ns": {" ".join(filter(None, who)): round(time) for who, time in medians.items()},
        "turns_ns": {" ".join(filter(None, who)): [round(time) for time in times] for who, times in figures.items()},
    }
    verdict = ""
    if target is not None:
        row.update(target=target, reached=faster >= target)
        verdict = f"   (target {target}: {'reached' if row['reached'] else 'MISSED'})"
    print(f"{name:<34}{best['ours'] / 1000:>10.2f} µs{best['theirs'] / 1000:>12.2f} µs{faster:>9.1f} x{verdict}")
    return row


def executors(kind, calls):
    """The two executors, as `kind` calls them."""
    # The rival first: it forks, and a fork wants no other threads around.
    theirs = {"": (kind(process_pool), calls // 10)}
    return {"": (kind(our_executor), calls)}, theirs


def polled(driver, threads, calls):
    """A driver in both ways; a thread that never sleeps keeps the others' lock for 5 ms."""
    return {
        "spinning": (Driving(driver, threads, False), calls),
        "sleeping": (Driving(driver, threads, True), calls),
    }


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
    calls = 5000 // scale
    print(f"{'a call':<34}{'nearcall':>13}{'rival':>15}")
    rows = [
        pair("Executor.submit().result()", *executors(Executing, calls), rounds, target=20),
        pair("Executor, all at once", *executors(Burst, calls), rounds),
        pair("Executor.map, chunks of 50", *executors(Mapping, calls), rounds),
    ]
    theirs = rival()
    ours = our_driver()
    for name, threads, target in (("Driver, one thread", 1, 20), ("Driver, 16 threads", THREADS, None)):
        # The rival has some calls for each thread at least.
        few = max(2 * threads, calls // 50)
        rows.append(
            pair(name, polled(ours, threads, calls // 2), polled(theirs, threads, few), rounds, target)
        )
    ours.finalize()
    theirs.finalize()
    rows += [
        alone("Engine.call", Calling, calls, rounds),
        alone("await Engine.call_async", Awaiting, calls, rounds),
        alone("await, 50 at once", Gathering, calls, rounds),
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
