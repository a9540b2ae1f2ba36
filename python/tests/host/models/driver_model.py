"""A model with the seed's parameters, for the tests of the driver."""

import os
import time


class Engine:
    def initialize(self, offset=0, **more):
        if more:
            raise TypeError("no such option: %s" % more)
        self._offset = offset

    def run(self, *, float_features, str_features, int_feature):
        (text,) = str_features
        if text == "raise":
            raise ZeroDivisionError
        if text.startswith("return "):
            return int(text[7:]), "fine"
        if text.startswith("wait "):
            while not os.path.exists(text[5:]):
                time.sleep(0.001)
        value = int(sum(abs(value) for value in float_features)) + len(text) + int_feature
        return value + self._offset, "fine"
