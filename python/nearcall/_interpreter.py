"""What this interpreter was started with."""

import subprocess


def options() -> "list[str]":
    """What to start another interpreter with that is to be like this one: ``-I``, ``-O``, ``-X dev``."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]
