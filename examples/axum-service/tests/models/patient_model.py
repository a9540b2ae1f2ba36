"""The demo's model, with what a test needs: strings of a certain form say what else is to be done."""

import os
import time

import big_model


class Engine(big_model.Engine):
    def initialize(self, folder):
        super().initialize()
        self._folder = folder
        if self._exists("broken"):
            raise RuntimeError("as the file says")

    def run_big_model(self, *, float_features, str_features, int_feature):
        if int_feature < 0:
            raise ValueError("a negative feature")
        name = str_features[0]
        if name.startswith("gate-"):
            # Says that it runs, and in which process, and goes on when it may.
            with open(os.path.join(self._folder, name), "w") as file:
                file.write("%d\n" % os.getpid())
            while not self._exists("open"):
                time.sleep(0.001)
        return super().run_big_model(
            float_features=float_features, str_features=str_features, int_feature=int_feature
        )

    def _exists(self, name):
        return os.path.exists(os.path.join(self._folder, name))
