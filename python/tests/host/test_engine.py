"""`nearcall.Engine`: values, errors, deadlines, and how it ends."""

import array
import gc
import math
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy
import pytest
from conftest import MODELS, PATIENCE, wait_until

import nearcall
from nearcall import errors

VALUE = {"x": "value"}


def start(model, signature=VALUE, **settings):
    settings.setdefault("workers", 1)
    return nearcall.Engine(f"host_models:{model}", signature=signature, **settings)


def test_values_of_all_kinds_arrive_as_they_left():
    values = [
        None,
        True,
        -(2**63),
        2**63 - 1,
        0.1,
        -0.0,
        math.inf,
        "text, \0, \U0001f600",
        "",
        b"\0bytes",
        [],
        (1, [2.5, ("x",)]),
        {"a": {"b": [None]}, "": 1},
    ]
    with start("echo") as engine:
        for value in values:
            assert engine.call(x=value) == value
            assert type(engine.call(x=value)) is type(value)
        nan = struct.unpack("<d", b"\x01\x02\x03\0\0\0\xf8\x7f")[0]
        assert struct.pack("<d", engine.call(x=nan)) == b"\x01\x02\x03\0\0\0\xf8\x7f"
        assert math.copysign(1, engine.call(x=-0.0)) == -1


def test_arrays_arrive_as_arrays_and_are_the_callers_own():
    arrays = [
        numpy.arange(24, dtype=dtype).reshape(2, 3, 4)
        for dtype in ("float16", "float32", "float64", "int8", "uint64", "int64")
    ]
    arrays.append(numpy.asfortranarray(arrays[2][0]))
    arrays.append(arrays[0][::-1, ::2])
    arrays.append(numpy.zeros((2, 0)))
    arrays.append(numpy.array(2.5))
    with start("echo") as engine:
        for sent in arrays:
            got = engine.call(x=[sent])[0]
            assert got.dtype == sent.dtype and got.shape == sent.shape
            assert (got == sent).all()
            got[...] = 0
        assert engine.call(x=numpy.float32(0.5)) == 0.5
        assert engine.call(x=bytearray(b"abc")) == b"abc"
        assert list(engine.call(x=array.array("i", [1, 2]))) == [1, 2]
        large = numpy.random.default_rng(1).random(1_000_000)
        assert (engine.call(x=large) == large).all()


def test_typed_arguments_take_what_python_takes_for_that_type():
    signature = {
        "flag": "bool",
        "number": "int",
        "real": "float",
        "text": "str",
        "flags": "bools",
        "numbers": ("ints", 2),
        "reals": ("floats", 1, 3),
        "texts": "strs",
    }
    with start("typed", signature) as engine:
        got = engine.call(
            flag=numpy.bool_(True),
            number=numpy.int32(7),
            real=3,
            text="x",
            flags=(True, False),
            numbers=numpy.array([1, -2], "int16"),
            reals=numpy.array([0.5, 1.5], "float32"),
            texts=["a", ""],
        )
        assert got == (True, 7, 3.0, "x", [True, False], [1, -2], [0.5, 1.5], ["a", ""])
        assert engine.signature["reals"] == "list of float"
        good = dict(zip(signature, (True, 1, 1.0, "", [], [1, 2], [1.0], [])))
        assert engine.call(**good)[1] == 1
        bad = {
            "flag": [1, "yes", None],
            "number": [1.5, "1", 2**63, None],
            "real": ["1.0", None, [1.0]],
            "text": [b"x", 1, "\ud800"],
            "flags": [[1], "ab", True],
            "numbers": [[1], [1, 2, 3], [1, 2.5], [1, 2**63], numpy.array([[1, 2]])],
            "reals": [[], [1.0] * 4, ["x"], {1.0}, numpy.array(["x"])],
            "texts": ["ab", [1], ["\ud800"]],
        }
        for name, values in bad.items():
            for value in values:
                with pytest.raises(nearcall.Mismatch, match=name) as raised:
                    engine.call(**{**good, name: value})
                assert raised.value.code == "mismatch"
                assert isinstance(raised.value, TypeError)
        for call in ({}, {**good, "more": 1}, {**good, "Flag": good["flag"]}):
            with pytest.raises(nearcall.Mismatch, match="parameters are: flag"):
                engine.call(**call)
        assert engine.in_use == 0, "no slot was touched"


def test_a_value_that_cannot_be_carried_is_named_with_its_place():
    with start("echo") as engine:
        deep = []
        for _ in range(70):
            deep = [deep]
        cycle = []
        cycle.append(cycle)
        for value, said in [
            ({1}, "set"),
            ([{"k": (0, object())}], r"\[0\]\['k'\]\[1\]: a object"),
            ({1: 2}, "keys must be str"),
            (["\udc80"], "surrogate"),
            (2**64, "64 bits"),
            (numpy.array([1j]), "complex128"),
            (deep, "64"),
            (cycle, "contains itself"),
        ]:
            with pytest.raises(nearcall.Mismatch, match=said):
                engine.call(x=value)


def test_conversions_that_run_python_code_do_no_harm():
    class Sly:
        def __float__(self):
            texts.clear()
            gc.collect()
            return 1.0

    class Interrupting:
        def __float__(self):
            raise KeyboardInterrupt

    texts = [str(n) * 50 for n in range(100)]
    expected = list(texts)
    model = {"texts": "strs", "real": "float", "flag": "bool", "number": "int", "text": "str"}
    model.update(flags="bools", numbers="ints", reals="floats")
    rest = {"flag": True, "number": 1, "text": "", "flags": [], "numbers": [], "reals": []}
    with start("typed", model) as engine:
        assert engine.call(texts=texts, real=Sly(), **rest)[-1] == expected
        with pytest.raises(KeyboardInterrupt):
            engine.call(texts=[], real=Interrupting(), **rest)
        assert engine.in_use == 0


def test_a_ticket_gives_its_answer_once_and_gives_its_task_up_when_it_goes():
    with start("echo", slots=2) as engine:
        ticket = engine.submit(x=1)
        assert ticket.key > 0 and str(ticket.key) in repr(ticket)
        assert ticket.wait() == 1
        with pytest.raises(nearcall.AlreadyRetrieved) as raised:
            ticket.retrieve()
        assert raised.value.code == "already_retrieved"
        for _ in range(10):
            engine.submit(x=2)
            wait_until(lambda: engine.in_use < 2, "abandoned tasks make room")
        wait_until(lambda: engine.in_use == 0, "abandoned tasks go")
        key = engine.submit(x=3).into_key()
        gc.collect()
        assert engine.wait(key) == 3
        pending = object()
        key = engine.submit_key(x=None)
        answers = []
        wait_until(lambda: answers.append(engine.retrieve(key, pending)) or answers[-1] is not pending, "")
        assert answers[-1] is None
        with pytest.raises(nearcall.UnknownKey):
            engine.wait(key + (1000 << 16))
        for wrong in (0, -1, 2**64):
            with pytest.raises(ValueError):
                engine.wait(wrong)
        with pytest.raises(TypeError):
            engine.wait("key")


def test_all_slots_taken_is_full_and_nothing_waits(tmp_path):
    gate = str(tmp_path / "gate")
    with start("wait_for", {"path": "str"}, slots=2) as engine:
        tickets = [engine.submit(path=gate) for _ in range(2)]
        with pytest.raises(nearcall.Full, match="2 slots") as raised:
            engine.submit(path=gate)
        assert raised.value.code == "full"
        open(gate, "w").close()
        assert len({ticket.wait(PATIENCE) for ticket in tickets}) == 1


def test_a_models_exception_has_type_message_and_traceback():
    with start("raises") as engine:
        with pytest.raises(nearcall.ModelError) as raised:
            engine.call(x="here")
        error = raised.value
        assert (error.code, error.kind, error.message) == ("python", "KeyError", "'here'")
        assert "in raises" in error.traceback and "in raises" in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is nearcall.ModelError and again.traceback == error.traceback
        with pytest.raises(nearcall.ModelError, match="SystemExit"):
            engine.call(x="system")
    with start("strange", {}) as engine:
        with pytest.raises(nearcall.Refused, match="set") as raised:
            engine.call()
        assert raised.value.code == "refused"


def test_a_workers_death_costs_its_task_alone_and_says_how_it_died():
    with start("die") as engine:
        with pytest.raises(nearcall.WorkerDied) as raised:
            engine.call(x=1)
        assert raised.value.code == "died" and raised.value.pid > 0
        assert "signal 9" in raised.value.exit or "SIGKILL" in raised.value.exit
        assert raised.value.earlier == []
        wait_until(lambda: engine.worker_pids(), "it is replaced")
    with start("die", retries=2) as engine:
        with pytest.raises(nearcall.WorkerDied) as raised:
            engine.call(x=1)
        assert len(raised.value.earlier) == 2
    with start("crash") as engine:
        with pytest.raises(nearcall.WorkerDied) as raised:
            engine.call(x=1)
        words = raised.value.last_words
        assert "the last words" in words and "Fatal Python error" in words and "in crash" in words


def test_a_deadline_ends_the_call_and_a_wait_only_itself(tmp_path):
    gate = str(tmp_path / "gate")
    with start("wait_for", {"path": "str"}, workers=2) as engine:
        began = time.monotonic()
        with pytest.raises(nearcall.DeadlinePassed) as raised:
            engine.call(0.2, path=gate)
        assert isinstance(raised.value, TimeoutError) and time.monotonic() - began < PATIENCE
        ticket = engine.submit(path=gate)
        for timeout in (0, 0.01, 0.2):
            with pytest.raises(nearcall.TimedOut):
                ticket.wait(timeout)
        late = engine.submit(0.1, path=gate)
        with pytest.raises(nearcall.DeadlinePassed):
            late.wait(PATIENCE)
        cancelled = engine.submit(path=gate)
        assert cancelled.cancel() and not cancelled.cancel()
        with pytest.raises(nearcall.Cancelled):
            cancelled.wait()
        open(gate, "w").close()
        assert ticket.wait(PATIENCE)
        with pytest.raises(ValueError):
            engine.call(math.nan, path=gate)
        assert engine.call(math.inf, path=gate)
        with pytest.raises(nearcall.DeadlinePassed):
            engine.call(-1, path=gate + ".never")


def test_cancel_waiting_leaves_a_running_task_alone(tmp_path):
    gate = str(tmp_path / "gate")
    with start("wait_for", {"path": "str"}) as engine:
        running = engine.submit(path=gate)
        wait_until(lambda: os.path.exists(gate + ".runs"), "it runs")
        waiting = engine.submit(path=gate)
        pids = engine.worker_pids()
        assert not engine.cancel_waiting(running)
        assert engine.cancel_waiting(waiting) and not engine.cancel_waiting(waiting)
        with pytest.raises(nearcall.Cancelled):
            waiting.wait(PATIENCE)
        open(gate, "w").close()
        assert running.wait(PATIENCE) == pids[0]
        assert not engine.cancel_waiting(running)


def test_blocking_calls_release_the_gil(tmp_path):
    gate = str(tmp_path / "gate")
    with start("wait_for", {"path": "str"}, workers=2) as engine:
        waiting = [threading.Thread(target=engine.call, args=(PATIENCE,), kwargs={"path": gate}) for _ in range(2)]
        for thread in waiting:
            thread.start()
        wait_until(lambda: os.path.exists(gate + ".runs"), "this thread goes on")
        open(gate, "w").close()
        for thread in waiting:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.mark.parametrize("call", ["engine.call(x=gate)", "engine.submit(x=gate).wait()"])
def test_a_keyboard_interrupt_ends_the_wait_and_the_engine_goes_on(call, tmp_path):
    code = f"""
import os, nearcall
gate = {str(tmp_path / "gate")!r}
engine = nearcall.Engine("host_models:wait_for", signature={{"path": "str"}}, workers=1)
try:
    {call.replace("x=gate", "path=gate")}
except KeyboardInterrupt:
    print("interrupted", engine.in_use, flush=True)
open(gate, "w").close()
print(engine.call(path=gate) > 0)
"""
    host = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(MODELS)}, stdout=subprocess.PIPE
    )
    wait_until(lambda: (tmp_path / "gate.runs").exists(), "it runs")
    host.send_signal(signal.SIGINT)
    said = host.communicate(timeout=PATIENCE)[0].split()
    assert said[0] == b"interrupted" and said[-1] == b"True" and host.returncode == 0


def test_a_class_has_its_init_kwargs_and_its_state():
    engine = nearcall.Engine(
        "host_models:Counter", "add", signature={"amount": "int"}, init_kwargs={"start": 5}, workers=1
    )
    with engine:
        assert engine.call(amount=1) == 6
        assert engine.call(amount=1) == 7
        assert engine.reload(PATIENCE).workers == 1
        assert engine.call(amount=1) == 6


def test_a_start_that_fails_says_why_and_leaves_nothing():
    for model, settings, kind, said in [
        ("host_models:missing", {}, "import", "missing"),
        ("no_such_module:f", {}, "import", "no_such_module"),
        ("host_models:Broken", {}, "initialize", "no table"),
        ("host_models", {}, "config", "module:Class"),
        ("host_models:echo", {"python": "/nowhere"}, "python_not_found", "/nowhere"),
        ("host_models:echo", {"worker": "/nowhere"}, "worker_not_found", "/nowhere"),
        ("host_models:echo", {"slots": 0}, "config", "slots"),
    ]:
        with pytest.raises(nearcall.StartError, match=said) as raised:
            nearcall.Engine(model, workers=1, **settings)
        assert (raised.value.kind, raised.value.code) == (kind, "start")
    for wrong in ({"signature": {"x": "double"}}, {"signature": {"x": ("int", 3)}}, {"wait_policy": "dance"}):
        with pytest.raises(ValueError):
            nearcall.Engine("host_models:echo", **wrong)
    with pytest.raises(TypeError):
        nearcall.Engine("host_models:echo", no_such_setting=1)


def test_health_tells_of_workers_and_tasks(tmp_path):
    gate = str(tmp_path / "gate")
    with start("wait_for", {"path": "str"}, workers=2) as engine:
        ticket = engine.submit(path=gate)
        wait_until(lambda: os.path.exists(gate + ".runs"), "it runs")
        health = engine.health()
        assert health["is_well"] and health["in_use"] == engine.in_use == 1
        assert {worker["pid"] for worker in health["workers"]} == set(engine.worker_pids())
        assert ticket.key in [worker["running"] for worker in health["workers"]]
        assert {entry["pid"] for entry in engine.memory()} >= set(engine.worker_pids())
        assert engine.workers == 2 and engine.slots == 64
        assert engine.start_report["forked"]
        open(gate, "w").close()
        ticket.wait(PATIENCE)


def test_shutdown_drains_and_then_refuses(tmp_path):
    gate = str(tmp_path / "gate")
    engine = start("wait_for", {"path": "str"})
    ticket = engine.submit(path=gate)
    open(gate, "w").close()
    assert engine.shutdown(PATIENCE) == (True, 0)
    assert ticket.wait(0) > 0, "answers stay to be retrieved"
    for use in (engine.submit, engine.call):
        with pytest.raises(nearcall.Closed) as raised:
            use(path=gate)
        assert raised.value.code == "closed"
    assert engine.shutdown(0).drained


def test_every_code_has_an_exception_of_its_own():
    words = "full mismatch too_large no_shared_memory system closed unavailable forked_child timed_out python"
    words += " refused died deadline_passed cancelled corrupt already_retrieved unknown start"
    for word in words.split():
        error = errors._make(word, "said", {})
        assert isinstance(error, nearcall.Error) and error.code == word and type(error) is not nearcall.Error
    assert errors._make("new_word", "said", {}).code == "new_word"
    with start("echo", slot_bytes=256, payload_bytes=0) as engine:
        with pytest.raises(nearcall.TooLarge):
            engine.call(x=b"x" * 10_000)


def test_many_threads_share_an_engine():
    with start("echo", workers=2, slots=64) as engine:

        def run(base):
            for n in range(50):
                try:
                    assert engine.call(PATIENCE, x=base + n) == base + n
                except BaseException as error:
                    wrong.append(error)

        wrong = []
        threads = [threading.Thread(target=run, args=(1000 * n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not wrong and engine.in_use == 0
