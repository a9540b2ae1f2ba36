"""What the type checker is told is what the module does."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

import nearcall

needs_mypy = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is installed for the default Python only"
)


def mypy(*arguments, cwd):
    run = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return run.returncode, run.stdout


@needs_mypy
def test_the_stubs_are_those_of_the_native_module(tmp_path):
    status, said = mypy("mypy.stubtest", "nearcall._native", cwd=tmp_path)
    assert status == 0, said


@needs_mypy
def test_the_package_passes_the_strictest_check(tmp_path):
    status, said = mypy("mypy", "--strict", "-p", "nearcall", cwd=tmp_path)
    assert status == 0, said


@needs_mypy
def test_a_host_is_checked(tmp_path):
    (tmp_path / "host.py").write_text(
        """
import concurrent.futures
import nearcall

engine = nearcall.Engine("m:f", signature={"x": ("floats", 3)}, workers=2)
pids: "list[int]" = engine.worker_pids()
ticket: nearcall.Ticket = engine.submit(1.0, x=[1.0])
executor: concurrent.futures.Executor = nearcall.Executor(2)
Model = nearcall.driver("m:C", "run")
flag, key, message = Model(max_tasks=3).submit(float_features=[], str_features=[], int_feature=1)
key.bit_length()
"""
    )
    status, said = mypy("mypy", "--strict", "host.py", cwd=tmp_path)
    assert status == 0, said
    (tmp_path / "wrong.py").write_text('import nearcall\nnearcall.Engine("m:f", wrokers=2)\n')
    status, said = mypy("mypy", "--strict", "wrong.py", cwd=tmp_path)
    assert status == 1 and "wrokers" in said


def test_the_package_says_that_it_is_typed():
    folder = pathlib.Path(nearcall.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_native.pyi").exists()


def test_every_name_of_the_package_is_there():
    for name in nearcall.__all__:
        assert getattr(nearcall, name) is not None
    assert set(nearcall.__all__) <= set(dir(nearcall))
    with pytest.raises(AttributeError, match="no_such_name"):
        nearcall.no_such_name
