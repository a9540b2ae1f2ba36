#!/usr/bin/env python3
"""Prints the contract table as lines, for hosts that read no JSON.

    python3 contract/lines.py HOST

Only the cases that are for HOST. One thing a line, its fields separated by tabs: the word first,
then key=value in any order. All that has a default is spelled out; what may be left out (deadline_ms,
as, value, length, x of kill_worker, interrupt_ms) is left out. No value has a tab or a newline, true is 1
and false 0.

    case    name=…  promise=…  workers=1  slots=4  slot_bytes=…  payload_bytes=…  retries=0
    submit  as=a  op=gate  x=1  expect=ok
    …
    forked_child            the lines up to end_of_child run in a forked child
    end_of_child
    end                     of the case
"""

import json
import pathlib
import sys

PATIENCE_MS = 30000
DEFAULTS = {
    "submit": {"expect": "ok"},
    "wait": {"within_ms": PATIENCE_MS},
    "call": {"deadline_ms": PATIENCE_MS},
}


def line(word, fields):
    texts = [word]
    for key, value in fields.items():
        if isinstance(value, bool):
            value = int(value)
        if value is not None:
            texts.append("%s=%s" % (key, value))
    print("\t".join(texts))


def steps(them):
    for step in them:
        step = dict(step)
        word = step.pop("do")
        inner = step.pop("steps", None)
        line(word, {**DEFAULTS.get(word, {}), **step})
        if inner is not None:
            steps(inner)
            print("end_of_child")


def main(host):
    table = json.loads(pathlib.Path(__file__).with_name("table.json").read_text())
    assert host in table["hosts"], "no host %r among %s" % (host, table["hosts"])
    for case in table["cases"]:
        if host in case.get("not_for", {}):
            continue
        names = {"name": case["name"], "promise": case["promise"]}
        line("case", {**names, **table["engine"], **case.get("engine", {})})
        steps(case["steps"])
        print("end")


if __name__ == "__main__":
    main(sys.argv[1])
