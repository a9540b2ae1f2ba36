"""The same job through `multiprocessing.Pool`: what nearcall's demo is compared with.

Reads one line of JSON from stdin and writes lines of JSON to stdout:

    in   {"workers": 2, "threads": 16, "capacity": 64, "sleep": false, "warm_up": 64,
          "rounds": [{"yields": 4, "pause": 0.001}, ...], "tasks": [{...}, ...]}
    out  {"done": 120}                                   progress in the current round
         {"round": {"seconds": 0.2, "answers": [...], "latencies_ns": [...]}}    for each round

A round runs every task once. Its threads poll: `yields` times they only let others run, then
they sleep `pause` seconds between two looks. Nothing is verified here; the reader does that.
The process ends, with its pool, when its stdin is closed: whoever started it has gone then.
"""

import itertools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "models"))

import big_model  # noqa: E402

OK, AGAIN, ERROR = 0, 1, 2

_engine = None


def _start_worker(sleep):
    """Runs in each process of the pool."""
    global _engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _engine = big_model.Engine()
    _engine.initialize(sleep=sleep)


def _call(**kwargs):
    return _engine.run_big_model(**kwargs)


class Driver:
    """Submit and retrieve by key, over a pool. Both return at once with a flag."""

    def __init__(self, workers, capacity, sleep):
        self._capacity = capacity
        self._results = {}
        self._keys = itertools.count(1)
        # "fork" is what nearcall's workers come from too, and the pool's quickest.
        context = multiprocessing.get_context("fork")
        self._pool = context.Pool(workers, initializer=_start_worker, initargs=(sleep,))

    def submit(self, task):
        """Returns (flag, key)."""
        if len(self._results) >= self._capacity:
            return AGAIN, 0
        key = next(self._keys)
        self._results[key] = self._pool.apply_async(_call, kwds=task)
        return OK, key

    def retrieve(self, key):
        """Returns (flag, answer or traceback)."""
        result = self._results[key]
        if not result.ready():
            return AGAIN, None
        del self._results[key]
        try:
            return OK, result.get()
        except Exception:
            return ERROR, traceback.format_exc()

    def close(self):
        """Ends the pool."""
        self._pool.terminate()
        self._pool.join()


class Round:
    """Every task once, by threads that take turns at nothing but the driver."""

    def __init__(self, driver, tasks, threads, yields, pause):
        self._driver = driver
        self._tasks = tasks
        self._polling = yields, pause
        self._answers = [None] * len(tasks)
        self._latencies = [0] * len(tasks)
        self._barrier = threading.Barrier(threads)
        self._spans = [(0, 0)] * threads
        self.done = 0
        bounds = [len(tasks) * index // threads for index in range(threads + 1)]
        self._threads = [
            threading.Thread(target=self._run, args=(index, *span), daemon=True)
            for index, span in enumerate(zip(bounds, bounds[1:]))
        ]

    def run(self, progress):
        """Blocks until all answers are there; calls `progress` a few times a second."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(0.2)
            while thread.is_alive():
                progress(self.done)
                thread.join(0.2)
        seconds = max(end for _, end in self._spans) - min(start for start, _ in self._spans)
        return {"seconds": seconds, "answers": self._answers, "latencies_ns": self._latencies}

    def _run(self, index, first, last):
        self._barrier.wait()
        start = time.perf_counter()
        for position in range(first, last):
            self._answers[position], self._latencies[position] = self._one(self._tasks[position])
            # Not exact under contention; good enough for a progress bar.
            self.done += 1
        self._spans[index] = start, time.perf_counter()

    def _one(self, task):
        start = time.perf_counter_ns()
        key = self._poll(lambda: self._driver.submit(task))
        answer = self._poll(lambda: self._driver.retrieve(key))
        return answer, time.perf_counter_ns() - start

    def _poll(self, look):
        yields, pause = self._polling
        for attempt in itertools.count():
            flag, value = look()
            if flag == OK:
                return value
            if flag == ERROR:
                print(value, file=sys.stderr)
                return None
            time.sleep(0 if attempt < yields else pause)


def _end_with_stdin():
    """Ends this process group once stdin is closed, whatever the pool is doing."""
    # Below Python's buffers: their locks, held by a thread that waits, would spoil the exit.
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _write(message):
    print(json.dumps(message), flush=True)


def main():
    # Its own group, so that it can be ended with its pool and without its starter.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    request = json.loads(sys.stdin.readline())
    tasks = request["tasks"]
    # The pool comes first: it forks, and a fork wants no other threads around.
    driver = Driver(request["workers"], request["capacity"], request["sleep"])
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        threads = request["threads"]
        Round(driver, tasks[: request["warm_up"]], threads, 0, 0.001).run(lambda done: None)
        for polling in request["rounds"]:
            one = Round(driver, tasks, threads, polling["yields"], polling["pause"])
            _write({"round": one.run(lambda done: _write({"done": done}))})
    finally:
        driver.close()


if __name__ == "__main__":
    main()
