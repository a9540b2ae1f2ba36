"""CPython's own tests of executors, run against `nearcall.Executor` where the interpreter has them
(`test.test_concurrent_futures`). What is left out stands in `EXCLUDED`, each with its reason."""

import importlib
import multiprocessing
import unittest

import pytest

import nearcall

#: Names of tests, or of a class' tests, and why they say nothing about this executor.
INTERNALS = "it looks into ProcessPoolExecutor's private attributes"
BY_NAME = "it starts a script with an executor of `concurrent.futures`; test_executor.py has its promise"
DEATH = "a worker's death fails its task alone here; test_executor.py has that promise"
EXCLUDED = {
    "test_killed_child": DEATH,
    "test_exit_at_task_unpickle": "SystemExit while a task is unpickled is that task's exception here, no death",
    "test_error_at_task_unpickle": "an error while a task is unpickled is that task's exception here, no death",
    "test_error_during_result_unpickle_in_result_handler": "the error is the future's own here, no broken pool",
    "test_exit_during_result_unpickle_in_result_handler": "the error is the future's own here, no broken pool",
    "test_saturation": INTERNALS + " (and hands semaphores over by inheritance)",
    "test_idle_process_reuse_one": INTERNALS,
    "test_idle_process_reuse_multiple": INTERNALS,
    "test_max_tasks_per_child": "workers are replaced after about so many tasks, when somebody looks",
    "test_max_tasks_per_child_defaults_to_spawn_context": INTERNALS,
    "test_max_workers_too_large": "about Windows",
    "test_python_finalization_error": INTERNALS,
    "test_interpreter_shutdown": BY_NAME,
    "test_submit_after_interpreter_shutdown": BY_NAME,
    "test_hang_gh83386": BY_NAME,
    "test_processes_terminate": INTERNALS,
    "test_context_manager_shutdown": INTERNALS,
    "test_del_shutdown": INTERNALS,
    "test_shutdown_no_wait": INTERNALS,
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": INTERNALS,
    "test_shutdown_deadlock_pickle": INTERNALS,
    "test_cancel_futures": "all may be cancelled before a worker has begun any; test_executor.py has the promise",
    "test_crash_big_data": "a worker's death fails its task alone; the rest of the map goes on",
    "test_ressources_gced_in_workers": "a task's arguments are freed with its answer, which is by then with the host",
    "FailingInitializerMixin.test_initializer": "it waits for a log in this process; test_executor.py has the promise",
}

#: The classes of tests, and the module that has them in a package.
CLASSES = {
    "ProcessPoolExecutorTest": "test_process_pool",
    "WaitTests": "test_wait",
    "AsCompletedTests": "test_as_completed",
    "ProcessPoolShutdownTest": "test_shutdown",
    "InitializerMixin": "test_init",
    "FailingInitializerMixin": "test_init",
    "ExecutorDeadlockTest": "test_deadlock",
}


def load(module):
    """A module of the tests; before Python 3.12 there is only one."""
    package = importlib.import_module("test.test_concurrent_futures")
    if hasattr(package, "ExecutorMixin"):
        return package
    return importlib.import_module("test.test_concurrent_futures." + module)


class NearcallMixin:
    executor_type = nearcall.Executor
    worker_count = 3

    def get_context(self):
        return multiprocessing.get_context("fork")


def adapted():
    """A test case of each class, and the names that are left out."""
    try:
        util = load("util")
    except ImportError:
        return
    for name, module in CLASSES.items():
        tests = getattr(load(module), name, None)
        if tests is None:
            continue
        bases = [NearcallMixin, tests]
        if not issubclass(tests, util.ExecutorMixin):
            bases.append(util.ExecutorMixin)
        base = getattr(util, "BaseTestCase", unittest.TestCase)
        if not issubclass(tests, base):
            bases.append(base)
        members = {"__module__": __name__, "__doc__": tests.__doc__}
        for test in dir(tests):
            reason = EXCLUDED.get(test) or EXCLUDED.get(f"{name}.{test}")
            if test.startswith("test") and reason:
                members[test] = unittest.skip(reason)(lambda self: None)
        yield name, type(name, tuple(bases), members)


globals().update(adapted())
ADAPTED = [name for name in CLASSES if name in globals()]


def test_cpythons_own_tests_are_there():
    if not ADAPTED:
        pytest.skip("SKIPPED: this Python has no test.test_concurrent_futures")
    names = {name for case in ADAPTED for name in dir(globals()[case]) if name.startswith("test_")}
    assert len(names) > 20
