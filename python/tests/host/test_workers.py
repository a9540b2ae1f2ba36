"""Workers that are the host's own interpreter: they look as those of `nearcall-worker` do."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import MODELS, PATIENCE

import nearcall


def surroundings(**settings):
    with nearcall.Engine("host_models:surroundings", workers=1, **settings) as engine:
        return engine.call(PATIENCE), engine.start_report


def test_a_worker_is_this_interpreter_and_finds_what_it_finds():
    told, report = surroundings()
    # (Whoever has started the tests may have written ".." in its path.)
    here = os.path.normpath(sys.executable)
    assert os.path.normpath(told["executable"]) == here
    assert os.path.normpath(told["prefix"]) == os.path.normpath(sys.prefix)
    assert report["worker"] == report["python"] and os.path.normpath(report["worker"]) == here
    assert report["forked"]
    assert told["argv"] == [""] and told["sigint"] and told["faulthandler"] and told["write_through"]
    assert told["stdin"] == "" and told["cwd"] == os.getcwd()
    assert str(MODELS) in told["path"]


def test_a_program_beside_pythons_own_folders_is_found(monkeypatch):
    from nearcall.engine import host_path

    program = os.path.join(sys.base_prefix, "lib", "program")
    monkeypatch.setattr(sys, "path", [program, *sys.path])
    found = host_path()
    assert found[0] == program
    assert not any("site-packages" in folder or folder == os.path.dirname(os.__file__) for folder in found)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_the_folder_that_the_host_is_in_is_not_searched(start_method, tmp_path, monkeypatch):
    # Everything that a start imports, as a trap.
    for name in ("nearcall", "json", "signal", "host_models", "encodings", "faulthandler", "atexit"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(99)")
    monkeypatch.chdir(tmp_path)
    told, _ = surroundings(python_path=[MODELS], start_method=start_method)
    assert told["cwd"] == str(tmp_path)
    assert "" not in told["path"] and str(tmp_path) not in told["path"]
    assert told["path"][0] == str(MODELS)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_whoever_isolates_the_host_means_its_workers_too(start_method, tmp_path):
    (tmp_path / "json.py").write_text("import os; os._exit(99)")
    program = (
        "import nearcall\n"
        f"settings = dict(python_path=[{str(MODELS)!r}], start_method={start_method!r}, workers=1)\n"
        "with nearcall.Engine('host_models:flags', **settings) as engine:\n"
        f"    print(engine.call({PATIENCE}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-I", "-O", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.returncode) == ("(1, 1, 1)\n", 0), done.stderr


def test_forked_and_spawned_workers_look_alike():
    forked, _ = surroundings(start_method="fork")
    spawned, report = surroundings(start_method="spawn")
    assert not report["forked"]
    forked.pop("descriptors"), spawned.pop("descriptors")
    assert forked == spawned


def test_a_worker_has_the_sys_path_that_nearcall_worker_has():
    worker = os.environ.get("NEARCALL_TEST_WORKER")
    if not worker:
        pytest.skip("no $NEARCALL_TEST_WORKER; scripts/test sets it")
    ours, _ = surroundings()
    theirs, report = surroundings(worker=worker)
    assert report["worker"] == worker
    for told in (ours, theirs):
        told.pop("descriptors"), told.pop("main")
    assert ours == theirs


def test_the_worker_tells_its_version():
    run = [sys.executable, "-m", "nearcall.worker"]
    told = json.loads(subprocess.run([*run, "--version", "--json"], stdout=subprocess.PIPE, check=True).stdout)
    assert told["nearcall"] == nearcall.__version__ and told["layout"] > 0
    assert told["python"] == "%d.%d" % sys.version_info[:2] and os.path.exists(told["libpython"])
    text = subprocess.run([*run, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert nearcall.__version__ in text and told["libpython"] in text
    wrong = subprocess.run(run, stderr=subprocess.PIPE)
    assert wrong.returncode == 2 and b"not by hand" in wrong.stderr


def test_an_environment_without_the_package_is_told_what_to_install(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    with pytest.raises(nearcall.StartError, match="-m pip install nearcall==") as raised:
        nearcall.Engine("host_models:echo", python=tmp_path / "bare", workers=1)
    assert raised.value.kind == "package_not_found"


def test_a_package_of_another_version_is_refused_before_anything_is_mapped(tmp_path):
    folder = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "nearcall").mkdir()
    (packages / "nearcall" / "__init__.py").touch()
    answer = json.dumps({"nearcall": "0.0.1", "layout": 1, "python": "3.11", "libpython": ""})
    (packages / "nearcall" / "worker.py").write_text(f"def version():\n    return {answer!r}\n")
    with pytest.raises(nearcall.StartError, match=r"0\.0\.1 \(layout 1\)") as raised:
        nearcall.Engine("host_models:echo", python=folder, workers=1)
    assert raised.value.kind == "package_version"


def test_another_environment_serves_its_own_packages(tmp_path):
    folder = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(os.path.dirname(nearcall.__file__), packages / "nearcall")
    told, report = surroundings(python=folder, python_path=[MODELS])
    assert told["prefix"] == str(folder) and report["python"].startswith(str(folder))
