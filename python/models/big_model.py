"""The model of the demo: typed features in, one number out.

`big_model` is the plain function; `Engine` is the same model as a class, with a time-consuming
step that can be switched on. Both take the same keywords, so either can be served:

    nearcall run big_model:big_model --python-path python/models --tasks FILE
    nearcall run big_model:Engine --method run_big_model --init '{"sleep": true}' ...
"""

import time


def big_model(float_features, str_features, int_feature):
    """Sums magnitudes, upper-cased lengths and a list's length into one int."""
    total = int(sum(map(abs, float_features)))
    total += sum(len(text.upper()) for text in str_features)
    # A list, not a number: the model shall allocate something that depends on its input.
    total += len([None] * int_feature)
    return total


class Engine:
    """One instance serves one worker process; it is made there, after the fork."""

    def __init__(self):
        self._sleep = False

    def initialize(self, sleep=False):
        """Takes the engine's init kwargs. `sleep` adds the time-consuming step."""
        self._sleep = sleep

    def run_big_model(self, *, float_features, str_features, int_feature):
        """Returns (value, message): two values, so the answer is a tuple."""
        value = big_model(float_features, str_features, int_feature)
        if self._sleep:
            # 0.1 to 10 ms, a function of the input, so that every run takes the same time.
            time.sleep((value % 100 + 1) * 0.0001)
        return value, ""
