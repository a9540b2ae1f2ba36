"""The smallest models: what goes in comes out. For trying the kinds of values that travel.

    nearcall run echo:echo --python-path python/models --tasks FILE
"""


def echo(**kwargs):
    """Returns its keyword arguments as a dict."""
    return kwargs


class Echo:
    """The same as a class whose instances are called: no --method is needed."""

    def __call__(self, **kwargs):
        return kwargs
