"""The model that an ``Executor``'s workers run: it calls what it is sent.

Its import makes the host's ``__main__`` known here, as multiprocessing does for processes that it starts
anew, so that functions which were defined there can be called. That happens once, before the workers are
forked.
"""

import base64
import json
import multiprocessing.process
import multiprocessing.spawn
import os
import pickle
from typing import Any, List, Optional, Union

#: Has what ``multiprocessing.spawn.get_preparation_data`` says of the host's ``__main__``.
MAIN = "NEARCALL_MAIN"


def _import_main() -> None:
    data = json.loads(os.environ.get(MAIN) or "{}")
    if data:
        process: Any = multiprocessing.process.current_process()
        # Whoever starts processes in there has forgotten `if __name__ == "__main__"`, and is told so.
        process._inheriting = True
        try:
            multiprocessing.spawn.prepare(data)
        finally:
            del process._inheriting


_import_main()


class Runner:
    """One worker's."""

    #: The last function that was sent by its name, and its pickle: most often it is the next one, too.
    _pickled: bytes = b""
    _function: Any = None

    def initialize(self, initializer: Optional[str] = None) -> None:
        if initializer is not None:
            function, arguments = pickle.loads(base64.b64decode(initializer))
            function(*arguments)

    def run(self, *, function: bytes, task: bytes) -> Union[bytes, List[bytes]]:
        """Calls a pickled function with pickled arguments; without one, it is in front of these. Gives the
        pickled result; in a list, the pickled exception."""
        try:
            if not function:
                any_function, args, kwargs = pickle.loads(task)
                return pickle.dumps(any_function(*args, **kwargs), pickle.HIGHEST_PROTOCOL)
            if function != self._pickled:
                self._function = pickle.loads(function)
                self._pickled = function
            args, kwargs = pickle.loads(task)
            return pickle.dumps(self._function(*args, **kwargs), pickle.HIGHEST_PROTOCOL)
        except BaseException as error:
            return [_pickled(error)]


def _pickled(error: BaseException) -> bytes:
    # That of ProcessPoolExecutor's exceptions: a cause that is printed as the remote traceback.
    from concurrent.futures import process

    wrap: Any = process._ExceptionWithTraceback
    try:
        return pickle.dumps(wrap(error, error.__traceback__))
    except Exception as problem:
        return pickle.dumps(wrap(problem, problem.__traceback__))
