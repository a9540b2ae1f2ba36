"""What the benchmark calls, through whatever system.

Each function is there as a method of `Model` too, which serves one worker.
"""


class Model:
    """One instance serves one worker process."""

    def noop(self, *, number):
        """Returns what it was given: nothing to do, and still an answer to check."""
        return number

    def big_model(self, *, float_features, str_features, int_feature):
        """Sums magnitudes, upper-cased lengths and a list's length: about a microsecond."""
        total = int(sum(map(abs, float_features)))
        total += sum(len(text.upper()) for text in str_features)
        total += len([None] * int_feature)
        return total, ""

    def echo(self, *, text):
        """Returns the text it was given."""
        return text

    def garbage(self, *, number):
        """Leaves twenty objects that only the garbage collector can free."""
        for _ in range(10):
            one, other = [], []
            one.append(other)
            other.append(one)
        return number
