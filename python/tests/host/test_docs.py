"""The examples of docs/host-python.md, run as they are written."""

import os
import re
import subprocess
import sys

import pytest
from conftest import PATIENCE, REPOSITORY

PAGE = (REPOSITORY / "docs" / "host-python.md").read_text()
#: A file's name in a comment of the first line, then its text; what it prints stands in a block behind.
FILES = re.findall(r"```python\n# ([\w.]+\.py)\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)
RUN = [(name, said) for name, _, said in FILES if said]


@pytest.mark.parametrize("name, said", RUN, ids=[name for name, _ in RUN])
def test_an_example_prints_what_the_page_says(name, said, tmp_path):
    for other, text, _ in FILES:
        (tmp_path / other).write_text(f"# {other}\n{text}")
    run = subprocess.run(
        [sys.executable, name],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == said, run.stderr


def test_the_page_has_examples_of_all_four_ways():
    assert {name for name, _ in RUN} >= {"calls.py", "tasks.py", "serve.py", "keys.py"}


def test_every_exception_is_in_the_table():
    import nearcall

    errors = [name for name in nearcall.__all__ if isinstance(getattr(nearcall, name), type)]
    for name in errors:
        kind = getattr(nearcall, name)
        if issubclass(kind, nearcall.Error) and kind is not nearcall.Error:
            assert f"| `{name}` | `{kind.code}` |" in PAGE, name
