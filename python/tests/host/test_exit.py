"""The end of a host, however it comes, is the end of all that is its own."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import HERE, MODELS, PATIENCE, processes_with, wait_until

HOST = """
import os, signal, sys, threading, nearcall
engine = nearcall.Engine("host_models:wait_for", signature={"path": "str"}, workers=2)
ticket = engine.submit(path=sys.argv[1])
print(*engine.worker_pids(), flush=True)
def wait():
    try:
        ticket.wait()
    except nearcall.Error:
        pass
"""


@pytest.mark.parametrize(
    "end, status",
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError('the end')", 1),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("threading.Thread(target=wait, daemon=True).start()", 0),
        ("del engine, ticket", 0),
        ("engine.shutdown(0); engine.shutdown(0)", 0),
        ("engine.cycle = engine; import builtins; builtins.kept = engine", 0),
    ],
)
def test_nothing_outlives_a_host(end, status, tmp_path, leaves_nothing_behind):
    host = subprocess.run(
        [sys.executable, "-c", HOST + end, str(tmp_path / "gate")],
        env={**os.environ, "PYTHONPATH": str(MODELS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
    )
    assert host.returncode == status, host.stderr
    assert len(host.stdout.split()) == 2
    if status in (0, 3):
        assert not host.stderr
    wait_until(lambda: not processes_with(leaves_nothing_behind), "workers are left")


def test_an_interrupt_at_the_terminal_reaches_the_host_alone(tmp_path, leaves_nothing_behind):
    # A terminal sends SIGINT to the whole process group.
    host = subprocess.Popen(
        [sys.executable, "-c", HOST + "ticket.wait()", str(tmp_path / "gate")],
        env={**os.environ, "PYTHONPATH": str(MODELS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until((tmp_path / "gate.runs").exists, "it runs")
    os.killpg(host.pid, signal.SIGINT)
    _, said = host.communicate(timeout=PATIENCE)
    assert said.count(b"KeyboardInterrupt") == 1 and b"host_models" not in said


def test_an_executor_in_use_at_the_end_of_the_interpreter_does_not_hang(tmp_path):
    text = """
import sys, nearcall, executor_tasks
if __name__ == "__main__":
    ex = nearcall.Executor(2)
    futures = [ex.submit(executor_tasks.square, n) for n in range(100)]
    futures[3].add_done_callback(lambda future: None)
    raise SystemExit(5)
"""
    script = tmp_path / "host.py"
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    host = subprocess.run([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert host.returncode == 5 and not host.stderr
