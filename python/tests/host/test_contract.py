"""The contract table (contract/README.md), carried out on a Python host: with blocking calls, and with
awaited ones."""

import asyncio
import json
import os
import signal

import pytest
from conftest import REPOSITORY, wait_until

import nearcall

CONTRACT = REPOSITORY / "contract"
TABLE = json.loads((CONTRACT / "table.json").read_text())
LIMIT = 30.0


def cases(host):
    for case in TABLE["cases"]:
        reason = case.get("not_for", {}).get(host)
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        yield pytest.param(case, id=case["name"], marks=marks)


class Blocking:
    """What the steps call, on an engine."""

    def __init__(self, engine):
        self.engine = engine

    def call(self, limit, **arguments):
        return self.engine.call(limit, **arguments)

    def wait(self, key, limit):
        return self.engine.wait(key, limit)

    def submit(self, limit, **arguments):
        return self.engine.submit_key(limit, **arguments)


class Awaited(Blocking):
    """The same, on a loop of asyncio's."""

    def __init__(self, engine, loop):
        super().__init__(engine)
        self.loop = loop

    def run(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, 2 * LIMIT))

    def call(self, limit, **arguments):
        return self.run(self.engine.call_async(limit, **arguments))

    def wait(self, key, limit):
        return self.run(self.engine.wait_async(key, limit))

    def submit(self, limit, **arguments):
        async def accepted():
            # Not `submit_async`, which waits for room: a step is told that there is none.
            return self.engine.submit_key(limit, **arguments)

        return self.run(accepted())


class Run:
    """One case."""

    def __init__(self, host, folder):
        self.host = host
        self.engine = host.engine
        self.folder = folder
        self.keys = {}
        self.last_error = None
        self.pids = set(self.engine.worker_pids())

    def steps(self, steps):
        for step in steps:
            self.pids.update(self.engine.worker_pids())
            self.step = step
            fields = {name: value for name, value in step.items() if name != "do"}
            getattr(self, "do_" + step["do"])(**fields)

    def told(self, does):
        """What a step ends with, as the table says it: a code, or "ok" with the answer."""
        try:
            return "ok", does()
        except nearcall.Error as error:
            self.last_error = error
            return error.code, None

    def expect(self, does, expect="ok", value=None, length=None):
        code, answer = self.told(does)
        assert code == expect, (self.step, self.last_error)
        if value is not None:
            assert answer == value, self.step
        if length is not None:
            assert len(answer) == length, self.step
        return answer

    def do_submit(self, op, x, expect="ok", deadline_ms=None, **names):
        limit = None if deadline_ms is None else deadline_ms / 1000
        key = self.expect(lambda: self.host.submit(limit, op=op, x=x), expect)
        if "as" in names:
            self.keys[names["as"]] = key

    def do_call(self, op, x, expect, deadline_ms=30_000, **answer):
        self.expect(lambda: self.host.call(deadline_ms / 1000, op=op, x=x), expect, **answer)

    def do_retrieve(self, key, expect, **answer):
        pending = object()
        code, found = self.told(lambda: self.engine.retrieve(self.keys[key], pending))
        if found is pending:
            code, found = "pending", None
        assert code == expect, (self.step, self.last_error)
        assert found == answer.get("value", found), self.step

    def do_wait(self, key, expect, within_ms=30_000, **answer):
        self.expect(lambda: self.host.wait(self.keys[key], within_ms / 1000), expect, **answer)

    def do_cancel(self, key, expect):
        assert self.engine.cancel(self.keys[key]) is expect, self.step

    def do_abandon(self, key):
        self.engine.abandon(self.keys[key])

    def do_forge(self, of, how, **names):
        forged = {"later": self.keys[of] + 65_536_000, "no_slot": self.keys[of] | 0xFFFF}
        self.keys[names["as"]] = forged[how]

    def do_misfit(self, how, expect):
        arguments = {
            "count": {"op": "echo"},
            "type": {"op": "echo", "x": "1"},
            "large": {"op": "x" * 100_000, "x": 1},
        }
        self.expect(lambda: self.host.submit(None, **arguments[how]), expect)

    def do_message(self, contains):
        assert contains in str(self.last_error), self.step

    def do_file(self, name, there):
        path = self.folder / name
        if there:
            path.touch()
        else:
            path.unlink()

    def runs(self, x):
        path = self.folder / f"runs-{x}"
        return path.read_text().split() if path.exists() else []

    def do_until(self, what, x=None, **wanted):
        found = {
            "in_use": lambda: self.engine.in_use,
            "workers": lambda: len(self.engine.worker_pids()),
            "runs": lambda: len(self.runs(x)),
            "call": lambda: self.told(lambda: self.host.call(LIMIT, op="echo", x=0))[0],
        }[what]
        wait_until(lambda: found() == wanted["is"], self.step, LIMIT)
        self.pids.update(self.engine.worker_pids())

    def do_kill_worker(self, x=None):
        pids = self.engine.worker_pids()
        pid = pids[0] if x is None else int(self.runs(x)[-1])
        assert pid in pids
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.engine.worker_pids(), self.step, LIMIT)

    def do_shutdown(self, within_ms, drained):
        assert self.engine.shutdown(within_ms / 1000).drained is drained

    def do_forked_child(self, steps):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self.steps(steps)
                status = 0
            finally:
                os._exit(status)
        statuses = []
        wait_until(lambda: statuses.append(os.waitpid(pid, os.WNOHANG)) or statuses[-1][0], self.step, LIMIT)
        assert statuses[-1][1] == 0, self.step


def carry_out(case, folder, host_of):
    settings = {**TABLE["engine"], **case.get("engine", {})}
    interrupt = settings.pop("interrupt_ms")
    with nearcall.Engine(
        "model:Model",
        "run",
        signature={"op": "str", "x": "int"},
        python_path=[CONTRACT],
        init_kwargs={"folder": str(folder)},
        interrupt=None if interrupt is None else interrupt / 1000,
        **settings,
    ) as engine:
        run = Run(host_of(engine), folder)
        run.steps(case["steps"])
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in run.pids), "workers end", LIMIT)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", list(cases("python")))
def test_blocking(case, tmp_path):
    carry_out(case, tmp_path, Blocking)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", list(cases("asyncio")))
def test_awaited(case, tmp_path):
    loop = asyncio.new_event_loop()
    try:
        carry_out(case, tmp_path, lambda engine: Awaited(engine, loop))
    finally:
        loop.close()
