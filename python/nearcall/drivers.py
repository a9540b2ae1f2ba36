"""Submit and retrieve by key, with flags instead of exceptions: ``nearcall.driver`` makes such a class
for a model."""

from __future__ import annotations

import json
import traceback
from typing import Any, Iterable, Optional, Sequence, Tuple, Type

from nearcall import errors
from nearcall._native import available_cpus
from nearcall.engine import Engine, PathLike

_PENDING = object()


class Driver:
    """The interface of a driver; ``nearcall.driver`` makes one for a model.

    Flags: 0 is success; 1 is "not now": the driver is at capacity, or the task is not finished; 2 is a
    value that is not positive; 9 is an error, whose traceback is the message.
    """

    #: The model, as ``"module:Class"`` or ``"module:function"``, and the method to call.
    model: str = ""
    method: Optional[str] = None
    #: Folders to search for the model; ``None``: those of this process.
    python_path: Optional[Iterable[PathLike]] = None

    def __init__(self, max_tasks: int = 64, n_subprocesses: int = -1) -> None:
        self._max_tasks = max_tasks
        self._workers = available_cpus() if n_subprocesses < 0 else n_subprocesses
        self._engine: Optional[Engine] = None

    def initialize(
        self,
        *,
        config_json: str,
        float_feature_names: Sequence[str],
        str_feature_names: Sequence[str],
        **kwargs: Any,
    ) -> "Driver":
        """Starts the workers; further keywords go to the model's ``initialize``."""
        if not self.model:
            raise TypeError("this driver has no model: nearcall.driver(model, method) makes one")
        self.config = json.loads(config_json)
        self._floats = len(float_feature_names)
        self._strs = len(str_feature_names)
        if self._workers > 0:
            self._engine = Engine(
                self.model,
                self.method,
                signature={
                    "float_features": ("floats", self._floats),
                    "str_features": ("strs", self._strs),
                    "int_feature": "int",
                },
                init_kwargs=kwargs or None,
                workers=self._workers,
                slots=self._max_tasks,
                python_path=self.python_path,
            )
            self._submit = self._engine.submit_key
            self._retrieve = self._engine.retrieve
        return self

    def submit(
        self, *, float_features: Sequence[float], str_features: Sequence[str], int_feature: int
    ) -> Tuple[int, int, str]:
        """Gives (flag, key, message); the key is positive if the flag is 0."""
        assert self._engine is not None, "initialize() comes first, with at least one subprocess"
        assert len(float_features) == self._floats, "one float for each of float_feature_names"
        assert len(str_features) == self._strs, "one str for each of str_feature_names"
        try:
            key = self._submit(
                float_features=float_features, str_features=str_features, int_feature=int_feature
            )
            return 0, key, ""
        except errors.Full as full:
            return 1, 0, str(full)
        except Exception:
            return 9, 0, traceback.format_exc()

    def retrieve(self, key: int) -> Tuple[int, Any, str]:
        """Gives (flag, value, message)."""
        assert self._engine is not None, "initialize() comes first, with at least one subprocess"
        try:
            answer = self._retrieve(key, _PENDING)
            if answer is _PENDING:
                return 1, -1, "not finished: try again later"
            value, message = answer
            return (0 if value > 0 else 2), value, message
        except Exception:
            return 9, -1, traceback.format_exc()

    def finalize(self) -> None:
        """Ends the workers."""
        if self._engine is not None:
            self._engine.shutdown(0)


def driver(
    model: str, method: Optional[str] = None, *, python_path: Optional[Iterable[PathLike]] = None
) -> Type[Driver]:
    """A driver's class for this model: one that takes ``float_features``, ``str_features`` and
    ``int_feature``, and returns a value and a message.

    ``Driver = nearcall.driver("package.module:Engine", "run_model")``
    """
    members = {"model": model, "method": method, "python_path": python_path, "__doc__": Driver.__doc__}
    return type("Driver", (Driver,), members)
