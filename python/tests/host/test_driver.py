"""`nearcall.driver`: the seed's interface, and the seed's own program."""

import os
import pathlib
import subprocess
import sys

import pytest
from conftest import PATIENCE, wait_until

import nearcall

SEED = pathlib.Path(os.environ.get("NEARCALL_SEED", ""))


def retrieve(driver, key):
    answers = []
    wait_until(lambda: answers.append(driver.retrieve(key)) or answers[-1][0] != 1, "it ends")
    return answers[-1]


def make(model="driver_model:Engine", method="run", **settings):
    driver = nearcall.driver(model, method)(**settings)
    kwargs = {"config_json": "{}", "float_feature_names": ["a", "b"], "str_feature_names": ["c"]}
    return driver.initialize(**kwargs)


FEATURES = {"float_features": [1.5, -2.0], "str_features": ["abc"], "int_feature": 4}


def test_flags_are_the_seeds():
    driver = make(max_tasks=2, n_subprocesses=1)
    try:
        flag, key, message = driver.submit(**FEATURES)
        assert flag == 0 and key > 0 and message == ""
        assert retrieve(driver, key) == (0, 10, "fine")
        assert driver.retrieve(key)[0] == 9 and "AlreadyRetrieved" in driver.retrieve(key)[2]
        for value in (0, -3):
            _, key, _ = driver.submit(**{**FEATURES, "str_features": [f"return {value}"]})
            assert retrieve(driver, key) == (2, value, "fine"), "a value that is not positive"
        _, key, _ = driver.submit(**{**FEATURES, "str_features": ["raise"]})
        flag, value, message = retrieve(driver, key)
        assert (flag, value) == (9, -1) and "ZeroDivisionError" in message
        assert driver.submit(**{**FEATURES, "int_feature": "4"})[:2] == (9, 0)
        for wrong in ({"float_features": [1.0]}, {"str_features": []}):
            with pytest.raises(AssertionError):
                driver.submit(**{**FEATURES, **wrong})
    finally:
        driver.finalize()


def test_capacity_is_flag_1_and_unfinished_is_flag_1(tmp_path):
    gate = str(tmp_path / "gate")
    driver = make(max_tasks=2, n_subprocesses=1)
    try:
        keys = [driver.submit(**{**FEATURES, "str_features": ["wait " + gate]})[1] for _ in range(2)]
        assert driver.submit(**FEATURES)[:2] == (1, 0)
        assert driver.retrieve(keys[0])[:2] == (1, -1)
        open(gate, "w").close()
        assert [retrieve(driver, key)[0] for key in keys] == [0, 0]
        assert driver.submit(**FEATURES)[0] == 0
    finally:
        driver.finalize()


def test_keywords_go_to_the_models_initialize_and_a_failed_start_is_an_exception():
    driver = nearcall.driver("driver_model:Engine", "run")(n_subprocesses=1)
    names = {"config_json": "{}", "float_feature_names": ["a", "b"], "str_feature_names": ["c"]}
    with pytest.raises(nearcall.StartError, match="no such option"):
        driver.initialize(nonsense=True, **names)
    with pytest.raises(ValueError):
        driver.initialize(**{**names, "config_json": "{"})
    assert driver.initialize(offset=100, **names) is driver
    assert retrieve(driver, driver.submit(**FEATURES)[1])[1] == 110
    driver.finalize()


def test_without_subprocesses_submit_is_refused():
    driver = make(n_subprocesses=0)
    with pytest.raises(AssertionError):
        driver.submit(**FEATURES)
    driver.finalize()
    with pytest.raises(TypeError, match="nearcall.driver"):
        nearcall.Driver().initialize(config_json="{}", float_feature_names=[], str_feature_names=[])


def test_the_seeds_program_runs_unchanged_but_for_its_import_line(tmp_path):
    if not (SEED / "test.py").is_file():
        pytest.skip("SKIPPED: no seed in $NEARCALL_SEED")
    pytest.importorskip("faker", reason="SKIPPED: faker==2.0.3 is not installed")
    theirs = "from py4cc1.py4cc import Driver, big_model"
    program = (SEED / "test.py").read_text()
    assert program.count(theirs) == 1
    (tmp_path / "test.py").write_text(program.replace(theirs, "from near import Driver, big_model"))
    (tmp_path / "near.py").write_text(
        "import nearcall\n"
        "from py4cc1.py4cc import big_model\n"
        "Driver = nearcall.driver('py4cc1.py4cc:Engine', 'run_big_model')\n"
    )
    run = subprocess.run(
        [sys.executable, "test.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SEED)},
        stdout=subprocess.PIPE,
        timeout=2 * PATIENCE,
    )
    assert run.returncode == 0 and b"cases per second" in run.stdout
