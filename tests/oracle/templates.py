#!/usr/bin/env python3
"""Chat templates rendered by trill's interpreter and by jinja2, set up as transformers does it.

  templates.py FOLDER            every *.jinja of a folder, on the conversations below
  templates.py --golden          writes tests/golden/templates.json from template_cases.py

trill's side is a test of its own (`template::tests::cases_from_outside`), run by cargo, because no command takes tools or
other variables. The last line of the first form is `N of M renderings are equal`; a rendering that both refuse counts
as equal and is counted apart. Needs jinja2.
"""

import argparse
import functools
import glob
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

REPOSITORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(REPOSITORY, "tests", "golden", "templates.json")


class Generation(Extension):
    """`{% generation %}` of transformers."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return env


ENVIRONMENT = environment()


@functools.cache
def compiled(source):
    return ENVIRONMENT.from_string(source)


def reference(source, variables):
    """(text, None) or (None, why)."""
    try:
        return compiled(source).render(**variables), None
    except Exception as e:  # whatever a template does to Python
        return None, f"{type(e).__name__}: {e}"


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather of a \"place\" <now>.",
        "parameters": {"type": "object", "properties": {
            "zone": {"type": "string", "description": "A place, l'été."},
            "days": {"type": "integer", "description": "How many."},
            "unit": {"type": "string", "enum": ["C", "F"]}}, "required": ["zone"]},
        "return": {"type": "string", "description": "words"}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {
            "b": {"type": "number"}, "a": {"type": "number"},
            "list": {"type": "array", "items": {"type": "string"}}}, "required": ["a", "b"]}}},
]
U, A, S = ({"role": role} for role in ("user", "assistant", "system"))
CALL = {"id": "call00001", "type": "function",
        "function": {"name": "get_weather", "arguments": {"zone": "Köln", "days": 2}}}
TALKS = {
    "one": [{**U, "content": "Hello"}],
    "spaces": [{**S, "content": " Be brief. \n"}, {**U, "content": "  Hi <b>\"there\"</b>\n\n"}],
    "turns": [{**S, "content": "Be brief."}, {**U, "content": "Hi"}, {**A, "content": "Hello"}, {**U, "content": "é 川\n"}],
    "thought": [{**U, "content": "Hi"}, {**A, "content": "<think>\nhm\n</think>\n\nHello"}, {**U, "content": "And?"}],
    "answered": [{**U, "content": "Hi"}, {**A, "content": "Hello"}],
    "parts": [{**U, "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]}],
    "called": [{**S, "content": "Use tools."}, {**U, "content": "Weather?"},
               {**A, "content": "", "tool_calls": [CALL]},
               {"role": "tool", "content": "{\"sun\": true}", "name": "get_weather", "tool_call_id": "call00001"},
               {**A, "content": "Sunny."}, {**U, "content": "Thanks"}],
}


def settings():
    """(name, variables): conversations with and without a beginning of the answer, thinking and tools."""
    common = {"bos_token": "<s>", "eos_token": "</s>", "documents": None}
    for name, messages in TALKS.items():
        for more in ({"add_generation_prompt": True, "tools": None}, {"add_generation_prompt": False, "tools": None},
                     {"add_generation_prompt": True, "tools": TOOLS}, {"add_generation_prompt": True, "tools": []},
                     {"add_generation_prompt": True, "tools": None, "enable_thinking": False},
                     {"add_generation_prompt": True, "tools": TOOLS, "enable_thinking": True}):
            shown = ",".join(f"{k}={len(v) if isinstance(v, list) else v}" for k, v in more.items())
            yield f"{name} {shown}", {"messages": messages, **common, **more}


def ours(cases):
    """What trill makes of (template, variables)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cases.jsonl")
        with open(path, "w", encoding="utf-8") as f:
            for template, variables in cases:
                f.write(json.dumps({"template": template, "variables": variables}) + "\n")
        command = ["cargo", "test", "-q", "-p", "trill-runtime-std", "--lib", "template::tests::cases_from_outside"]
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "TRILL_TEMPLATE_CASES": path})
        return [json.loads(line) for line in open(os.path.join(folder, "cases.out"), encoding="utf-8")]


def compare(folder):
    cases = []
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        source = open(path, encoding="utf-8").read()
        cases += [(os.path.basename(path), name, source, variables) for name, variables in settings()]
    results = ours([(source, variables) for _, _, source, variables in cases])
    equal = both = 0
    bad = {}
    for (file, name, source, variables), got in zip(cases, results, strict=True):
        want, why = reference(source, variables)
        if want == got.get("text"):
            equal += 1
            both += want is None
            if want is None and got["exhausted"]:
                print("EXHAUSTED", file, name, got["error"])
            continue
        bad.setdefault(file, []).append(name)
        print(f"--- {file}: {name}\n  jinja2: {why or want!r:.1500}\n  trill:  {got.get('error') or got['text']!r:.1500}")
    for file, names in bad.items():
        print(f"{len(names):3} differ: {file}")
    print(f"{equal} of {len(cases)} renderings are equal, {both} of those refused by both")
    return len(cases) - equal


def golden():
    from template_cases import CASES, VARIABLES
    lines = [json.dumps([source, reference(source, VARIABLES)[0]], ensure_ascii=False) for source in CASES]
    head = json.dumps(VARIABLES, ensure_ascii=False)
    with open(GOLDEN, "w", encoding="utf-8") as f:
        f.write('{"variables": ' + head + ',\n"cases": [\n' + ",\n".join(lines) + "\n]}\n")
    print(f"{len(lines)} cases by jinja2 {jinja2.__version__}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder", nargs="?")
    ap.add_argument("--golden", action="store_true")
    a = ap.parse_args()
    if a.golden:
        golden()
    elif a.folder:
        sys.exit(compare(a.folder) > 0)
    else:
        ap.error("a folder of templates, or --golden")


if __name__ == "__main__":
    main()
