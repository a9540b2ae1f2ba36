"""The example models, without nearcall."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models"))

import big_model  # noqa: E402
import echo  # noqa: E402
import shared_table  # noqa: E402


class BigModel(unittest.TestCase):
    TASK = {"float_features": [1.5, -2.75], "str_features": ["straße", ""], "int_feature": 10}

    def test_counts_magnitudes_upper_case_and_length(self):
        self.assertEqual(big_model.big_model(**self.TASK), 4 + 7 + 10)

    def test_a_negative_length_is_an_empty_list(self):
        self.assertEqual(big_model.big_model([], [], -3), 0)

    def test_the_engine_answers_with_and_without_the_sleep(self):
        for kwargs in ({}, {"sleep": True}):
            engine = big_model.Engine()
            engine.initialize(**kwargs)
            self.assertEqual(engine.run_big_model(**self.TASK), (21, ""))


class Others(unittest.TestCase):
    def test_echo(self):
        self.assertEqual(echo.echo(a=1, b=[]), {"a": 1, "b": []})
        self.assertEqual(echo.Echo()(a=1), {"a": 1})

    def test_shared_table(self):
        shared_table.Table.preload()
        table = shared_table.Table()
        table.initialize(scale=0.5)
        self.assertEqual(table.lookup(indices=[0, 2, 3]), [0.0, 2.0, 4.5])
        with self.assertRaises(IndexError):
            table.lookup(indices=[100_000])


if __name__ == "__main__":
    unittest.main()
