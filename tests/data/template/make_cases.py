#!/usr/bin/env python3
"""Writes cases.json: small templates and what Jinja2 makes of them, in the environment that Hugging Face
transformers renders chat templates in. Needs python3 with jinja2 3.1; run it from the repository's root:
    python3 tests/data/template/make_cases.py > tests/data/template/cases.json
A case is {template, context, expected}; without `expected`, rendering fails (the message is not compared)."""
import datetime
import json
import os
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    now = datetime.datetime(2025, 2, 6, 12, 34, 56)
    env.globals["strftime_now"] = now.strftime
    return env


CONTEXT = {
    "s": "Hello, World", "u": "Größe ÉÈ 日本語 ß", "sp": "  a  b\tc\n", "n": 7, "m": -3, "z": 0, "f": 2.5, "g": 1e20,
    "t": True, "no": False, "nil": None, "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "e": [], "d": {"b": 1, "a": [1, 2], "items": 5},
    "msgs": [{"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": "yo", "n": 1, "x": {"y": 3}},
             {"role": "user", "content": "", "n": 2}],
    "esc": "<a href='x'>\"&amp;\"</a>", "lines": "one\ntwo\r\nthree\n\nfour", "num": "42", "flt": " 3.75 ",
    "nested": {"a": {"b": [{"c": "deep"}]}}, "tree": [{"v": 1, "k": [{"v": 2, "k": []}, {"v": 3, "k": [{"v": 4, "k": []}]}]}],
}

def templates():
    """own.txt: expressions separated by " ;; ", or a whole template as a JSON string behind a "!"."""
    for line in open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "own.txt"), encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("!"):
            yield json.loads(line[1:])
        elif line and not line.startswith("#"):
            for expression in line.split(" ;; "):
                yield "{{ " + expression.strip() + " }}"


def main():
    env = environment()
    cases = []
    for source in templates():
        used = {k: v for k, v in CONTEXT.items() if k in source}
        case = {"template": source, "context": used}
        try:
            case["expected"] = env.from_string(source).render(**used)
            case["expected"].encode()
        except Exception as e:  # whatever it is, this engine must fail as well
            case.pop("expected", None)
            print(f"{type(e).__name__}: {e}: {source}", file=sys.stderr)
        cases.append(case)
    print("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]")


if __name__ == "__main__":
    main()
