"""Calls a model through one of Python's own pools: reads a job as JSON from stdin, and writes a
turn (nearcall_bench::measure::Turn) or the reason why there is none to stdout."""

import collections
import concurrent.futures
import ctypes
import json
import multiprocessing
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
# Beyond it, a worker that does not answer is a failure: no turn takes that long.
PATIENCE = 60


def start_worker(method, driver):
    """Makes the model of this worker, which ends with the driver however that ends."""
    global call
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:
        os._exit(1)
    from bench_model import Model

    call = getattr(Model(), method)


def work(**arguments):
    return call(**arguments)


def cpu_seconds():
    """CPU time of this process and its workers so far."""
    used = time.process_time()
    for worker in multiprocessing.active_children():
        # The kernel's number for the CPU clock of another process; see clock_getcpuclockid(3).
        used += time.clock_gettime((~worker.pid << 3) | 2)
    return used


def submitter(submit, job):
    """A function that makes the call with a number, and checks its answer."""
    if job["answer"] is None:

        def one(number):
            answer = submit({"number": number})
            if answer != number:
                raise ValueError("a wrong answer: %r instead of %r" % (answer, number))

    else:
        arguments, expected = job["arguments"], tuple(job["answer"])

        def one(number):
            answer = submit(arguments)
            if answer != expected:
                raise ValueError("a wrong answer: %r instead of %r" % (answer, expected))

    return one


def run(one, number, step, seconds, latencies):
    """Makes one call after another; returns the next number, the begin and the end."""
    clock = time.perf_counter_ns
    begin = clock()
    end = begin + int(seconds * 1e9)
    while True:
        before = clock()
        one(number)
        after = clock()
        latencies.append(after - before)
        number += step
        if after >= end:
            return number, begin, after


def measure(submit, job):
    threads = job["submitters"]
    barrier = threading.Barrier(threads)
    cpu = []
    shares = []
    failures = []

    def thread(index):
        try:
            one = submitter(submit, job)
            number, _, _ = run(one, index, threads, job["warm_up"], [])
            # All begin at once, after the CPU time has been read.
            if barrier.wait() == 0:
                cpu.append(cpu_seconds())
            barrier.wait()
            latencies = []
            _, begin, end = run(one, number, threads, job["measured"], latencies)
            shares.append((latencies, begin, end))
        except threading.BrokenBarrierError:
            pass
        except BaseException as failure:
            failures.append(failure)
            barrier.abort()

    others = [threading.Thread(target=thread, args=(i,)) for i in range(1, threads)]
    for other in others:
        other.start()
    thread(0)
    for other in others:
        other.join()
    if failures:
        raise failures[0]
    counts = collections.Counter()
    for latencies, _, _ in shares:
        counts.update(latencies)
    return {
        "latencies": sorted(counts.items()),
        "seconds": (max(s[2] for s in shares) - min(s[1] for s in shares)) / 1e9,
        "cpu_seconds": cpu_seconds() - cpu[0],
    }


def with_pool(job):
    context = multiprocessing.get_context("fork")
    start = (job["method"], os.getpid())
    with context.Pool(job["workers"], start_worker, start) as pool:
        return measure(lambda arguments: pool.apply_async(work, (), arguments).get(), job)


def with_executor(job):
    with concurrent.futures.ProcessPoolExecutor(
        job["workers"],
        mp_context=multiprocessing.get_context("fork"),
        initializer=start_worker,
        initargs=(job["method"], os.getpid()),
    ) as pool:
        # A worker ends with the thread that forked it, so all are started by this one.
        deadline = time.monotonic() + PATIENCE
        while len(multiprocessing.active_children()) < job["workers"]:
            calls = [pool.submit(os.getpid) for _ in range(2 * job["workers"])]
            concurrent.futures.wait(calls)
            if time.monotonic() > deadline:
                raise TimeoutError("the executor does not start its workers")
        return measure(lambda arguments: pool.submit(work, **arguments).result(), job)


def main():
    job = json.load(sys.stdin)
    try:
        # Here, a missing model is an error; in a worker, the pool would start it again and again.
        sys.path.insert(0, job["models"])
        import bench_model

        getattr(bench_model.Model(), job["method"])
        turn = {"multiprocessing": with_pool, "executor": with_executor}[job["pool"]](job)
    except Exception as failure:
        sys.stdout.write("%s: %s" % (type(failure).__name__, failure))
        sys.stdout.flush()
        sys.exit(1)
    json.dump(turn, sys.stdout)


main()
