"""The pool driver as the demo uses it: JSON in, JSON out."""

import json
import os
import signal
import subprocess
import sys
import unittest

DRIVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "pool_driver.py")


def start(tasks, **settings):
    request = {
        "workers": 2,
        "threads": 4,
        "capacity": 8,
        "sleep": False,
        "warm_up": 5,
        "rounds": [{"yields": 0, "pause": 0.001}, {"yields": 4, "pause": 0.0}],
        "tasks": tasks,
    }
    request.update(settings)
    driver = subprocess.Popen(
        [sys.executable, DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    driver.stdin.write(json.dumps(request) + "\n")
    driver.stdin.flush()
    return driver


class PoolDriver(unittest.TestCase):
    TASKS = [
        {"float_features": [0.5, n], "str_features": ["é"], "int_feature": n} for n in range(50)
    ]

    def finish(self, driver):
        self.addCleanup(driver.stdout.close)
        self.addCleanup(driver.stdin.close)
        lines = [json.loads(line) for line in driver.stdout]
        return lines, driver.wait(30)

    def test_every_round_answers_every_task_in_order(self):
        lines, status = self.finish(start(self.TASKS))
        rounds = [line["round"] for line in lines if "round" in line]
        self.assertEqual((len(rounds), status), (2, 0))
        for one in rounds:
            self.assertEqual(one["answers"], [[2 * n + 1, ""] for n in range(50)])
            self.assertEqual(len(one["latencies_ns"]), 50)
            self.assertTrue(0 < min(one["latencies_ns"]) / 1e9 < one["seconds"])

    def test_fewer_slots_than_threads_are_enough(self):
        lines, status = self.finish(start(self.TASKS, capacity=1))
        self.assertEqual((sum("round" in line for line in lines), status), (2, 0))

    def test_it_ends_with_its_stdin(self):
        # Seconds of work; nobody waits for it.
        tasks = [dict(task, int_feature=99) for task in self.TASKS] * 100
        driver = start(tasks, sleep=True)
        self.addCleanup(driver.stdout.close)
        self.assertIn("done", json.loads(driver.stdout.readline()))
        driver.stdin.close()
        self.assertEqual(driver.wait(10), -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
