"""What the C and C++ programs call: each function or class is one thing that they look at."""

import os
import signal
import time


def everything(*, b, i, f, s, bs, iss, fs, ss, v):
    """Returns what came in, so that each way in is held against each way out."""
    return b, i, f, s, bs, iss, fs, ss, v


def echo(*, v):
    return v


def join(*, xs, ys, zs):
    """Lists of texts, of different lengths and more than one of them."""
    return xs + ys + zs


def nothing():
    return 0


class Steps:
    """Each `op` is one thing that a model may do."""

    def initialize(self, folder="", broken=False):
        self._folder = folder
        if broken:
            raise ValueError("broken on purpose")

    def run(self, *, op, x):
        if op == "echo":
            return x
        if op == "raise":
            raise ValueError("as asked: \0%d" % x)
        if op == "set":
            return {x}
        if op == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if op == "hang":
            while True:
                time.sleep(0.01)
        return None


def double_all(*, image, out):
    """Reads one reserved array and writes the other."""
    for index in range(len(image)):
        out[index] = 2 * image[index]
    return len(image)


class Seed:
    """The seed's interface, with all that it can answer."""

    def run_big_model(self, *, float_features, str_features, int_feature):
        if int_feature == -1:
            return 0, "not above zero"
        if int_feature == -2:
            return 1 << 40, ""
        if int_feature == -3:
            return "text", ""
        if int_feature == -4:
            raise ValueError("as asked")
        if int_feature == -5:
            return 5
        return int(sum(float_features)) + sum(map(len, str_features)) + int_feature, ""
