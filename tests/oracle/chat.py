#!/usr/bin/env python3
"""Conversations of several turns, token for token, through the real binary.

  chat.py --trill target/release/trill [--model models/SmolLM2-135M-Instruct.Q4_1.gguf]

`trill chat -f FILE --session FILE` holds a conversation of three questions; the session file (docs/sessions.md) has
every token the model read and every message as it was shown. They have to be the tokens of the whole conversation,
rendered up to the last answer by another Jinja (PyPI `jinja2`, set up as transformers does it) or, for the published
2B-4T file, by the words of the notes on it, and encoded by vocab.py. The templates below are written for this test with
the constructs that the published ones of these families use, and write the tokens they write.

The last line is `N passed, N failed`. Needs numpy, regex and jinja2.
"""

import argparse
import json
import os
import shlex
import struct
import subprocess
import sys
import tempfile

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

import gguf_file as g
import make_2b4t
import make_model
import vocab

QUESTIONS = ["Hello there", "  What's 12345 + 6?  Say it twice. ", "\u5ddd\u306f \U0001f30a, isn't it?"]
SYSTEM = "Count, machine.\nBriefly."
ROLES = ["system", "user", "assistant"]

CHATML = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
          "{{ '<|im_start|>system\nYou count.<|im_end|>\n' }}{% endif %}"
          "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "01 Jan 2026" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Tools.\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- raise_exception("no tools here") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
# Thoughts of earlier answers are left out; the switch writes an empty thought.
QWEN3 = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' + tools | tojson }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<result>') and message.content.endswith('</result>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
# No system turn: its text goes before the first question.
GEMMA3 = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("turns must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- else -%}
        {{ raise_exception("no content") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""
PHI3 = ("{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}")
FALCON = ("{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}"
          "{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}"
          "{% elif message['role'] == 'assistant' %}{% if not loop.last %}"
          "{{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}{% else %}"
          "{{ '<|assistant|>\n' + message['content'] + eos_token }}{% endif %}{% endif %}"
          "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}")
HUNYUAN = """\
{%- set context = {'has_head': true, 'n': 0} %}
{%- set ns = namespace(system='', first=true) %}
{%- for message in messages if message.get('role') == 'system' %}
    {%- if ns.first %}
        {%- set ns.system = ns.system + message['content'] %}
        {%- set ns.first = false %}
    {%- else %}
        {%- set ns.system = ns.system + '\n\n' + message['content'] %}
    {%- endif %}
{%- endfor %}
{{- bos_token ~ ns.system }}
{%- if ns.system != '' %}{{- '<|hy_place_3|>' }}{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'user' and message['content'] is not none %}
        {{- '<|hy_User|>' ~ message['content'] }}
    {%- endif %}
    {%- if message['role'] == 'assistant' %}
        {%- set answer = message['content'] %}
        {%- if '<answer>' in answer and '</answer>' in answer %}
            {%- set answer = answer.split('<answer>')[-1].split('</answer>')[0].strip() %}
        {%- endif %}
        {{- '<|hy_Assistant|>' ~ answer ~ '<|hy_place_2|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|hy_Assistant|>' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n' }}{%- endif %}
{%- endif %}
"""
DEEPSEEK = ("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
            "{% set ns = namespace(is_first=false, system_prompt='') %}{%- for message in messages %}"
            "{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
            "{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}"
            "{{'<|User|>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] "
            "is not none %}{% set content = message['content'] %}{% if '</think>' in content %}"
            "{% set content = content.split('</think>')[-1] %}{% endif %}"
            "{{'<|Assistant|>' + content + '<|end_of_text|>'}}{%- endif %}{%- endfor -%}"
            "{% if add_generation_prompt %}{{'<|Assistant|><think>\\n'}}{% endif %}")

B, E = "<|begin_of_text|>", "<|end_of_text|>"
THINK = ["<think>", "</think>"]
# name: (template, special tokens beside B and E, whether the file says add_bos, with a system message, further flags)
FAMILIES = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], False, True, {}),
    "chatml, its own system message": (CHATML, ["<|im_start|>", "<|im_end|>"], False, False, {}),
    "llama 3": (LLAMA3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], True, True, {}),
    "qwen 3": (QWEN3, ["<|im_start|>", "<|im_end|>", *THINK], False, True, {}),
    "qwen 3, thinking": (QWEN3, ["<|im_start|>", "<|im_end|>", *THINK], False, True, {"enable_thinking": True}),
    "qwen 3, not thinking": (QWEN3, ["<|im_start|>", "<|im_end|>", *THINK], False, True, {"enable_thinking": False}),
    "gemma 3": (GEMMA3, ["<start_of_turn>", "<end_of_turn>"], True, True, {}),
    "gemma 3, no system message": (GEMMA3, ["<start_of_turn>", "<end_of_turn>"], True, False, {}),
    "phi 3": (PHI3, ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], True, True, {}),
    "falcon": (FALCON, ["<|system|>", "<|user|>", "<|assistant|>"], False, True, {}),
    "hunyuan": (HUNYUAN, ["<|hy_User|>", "<|hy_Assistant|>", "<|hy_place_2|>", "<|hy_place_3|>", *THINK], True, True, {}),
    "hunyuan, not thinking": (HUNYUAN, ["<|hy_User|>", "<|hy_Assistant|>", "<|hy_place_2|>", "<|hy_place_3|>", *THINK],
                              True, True, {"enable_thinking": False}),
    "deepseek": (DEEPSEEK, ["<|User|>", "<|Assistant|>", *THINK], True, True, {}),
}


# ---------------------------------------------------------------- what was said

def read_session(path):
    """(tokens, messages) of a session file: docs/sessions.md has the format."""
    raw = open(path, "rb").read()
    assert raw[:8] == b"\x89trillS\n", raw[:8]
    at, tokens, messages = 128, [], []
    while at < len(raw):
        if raw[at:at + 4] == b"SEAL":
            at += 32
            continue
        assert raw[at:at + 4] == b"TURN", (at, raw[at:at + 4])
        kept, _, n = struct.unpack_from("<III", raw, at + 16)
        old, said = struct.unpack_from("<II", raw, at + 44)
        (size,) = struct.unpack_from("<Q", raw, at + 64)
        body = at + 80
        tokens[kept:] = struct.unpack_from(f"<{n - kept}I", raw, body)
        body += 4 * (n - kept)
        del messages[old:]
        while len(messages) < said:
            role, length = struct.unpack_from("<BI", raw, body)
            messages.append(dict(role=ROLES[role], content=raw[body + 5:body + 5 + length].decode()))
            body += 5 + length
        at += 80 + size + 16
    return tokens, messages


def talk(trill, folder, model, flags):
    """Tokens and messages of a conversation of QUESTIONS."""
    questions, session = os.path.join(folder, "questions"), os.path.join(folder, "session")
    with open(questions, "w", encoding="utf-8") as f:
        f.write("\n".join(QUESTIONS))
    if os.path.exists(session):
        os.remove(session)
    done = subprocess.run([*trill, "chat", "-m", model, "-f", questions, "--session", session, "-n", "7", "-s", "1",
                           "-c", "1024", "-t", "1", *flags], capture_output=True, text=True)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr.strip()[-300:]}"
    tokens, messages = read_session(session)
    assert [m["role"] for m in messages] == ["user", "assistant"] * len(QUESTIONS), messages
    assert [m["content"] for m in messages[::2]] == QUESTIONS, messages
    return tokens, messages


def render(template, messages, **values):
    """As transformers' apply_chat_template does it."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.globals["raise_exception"] = raise_exception
    return env.from_string(template).render(messages=messages, add_generation_prompt=True, tools=None, documents=None,
                                            **values)


def same(tokens, want):
    """The conversation up to the last answer has just these tokens; after it comes the answer."""
    at = next((i for i, (a, b) in enumerate(zip(tokens, want)) if a != b), min(len(tokens), len(want)))
    assert at == len(want), f"token {at} of {len(want)}: {tokens[at:at + 8]} where {want[at:at + 8]} is right"
    assert len(want) < len(tokens) <= len(want) + 7, (len(tokens), len(want))


# ---------------------------------------------------------------- tests

def published_2b4t(trill, folder, _):
    """Role, colon, the message without spaces around it, <|eot_id|>: the form the model was trained with."""
    path = os.path.join(folder, "2b4t.gguf")
    make_2b4t.make(path, small=True)
    tok = vocab.Tokenizer(g.read(path)[0])
    for system in (SYSTEM, None):
        tokens, messages = talk(trill, folder, path, ["-sys", system] if system else [])
        if system:
            messages.insert(0, dict(role="system", content=system))
        want = [128000]
        for m in messages[:-1]:
            want += tok.encode(f"{m['role'].capitalize()}: {m['content'].strip()}", bos=False) + [128009]
        same(tokens, want + tok.encode("Assistant: ", bos=False))


def family(name):
    template, specials, add_bos, system, values = FAMILIES[name]

    def test(trill, folder, _):
        path = os.path.join(folder, "model.gguf")
        maker = make_model.Maker(make_model.Options(arch="llama", type="TQ2_0", ctx=1024))
        names = [B, E, *specials]
        tokens, types, merges = vocab.build(maker.o.vocab, names)
        ids = {t: i for i, t in enumerate(tokens)}
        new = {"tokens": (g.STRING, tokens), "token_type": (g.I32, types), "merges": (g.STRING, merges),
               "bos_token_id": ids[B], "eos_token_id": ids[E], "add_bos_token": add_bos}
        meta = [(k, t, new.get(k.removeprefix("tokenizer.ggml."), v)) for k, t, v in maker.metadata()]
        meta = [(k, t, template if k == "tokenizer.chat_template" else v) for k, t, v in meta]
        g.write(path, meta, maker.model())
        flags = ["-sys", SYSTEM] if system else []
        if "enable_thinking" in values:
            flags += ["--think", "on" if values["enable_thinking"] else "off"]
        got, messages = talk(trill, folder, path, flags)
        before = [dict(role="system", content=SYSTEM)] if system else []
        text = render(template, before + messages[:-1], bos_token=B, eos_token=E, **values)
        same(got, vocab.Tokenizer(g.read(path)[0]).encode(text, bos=add_bos and not text.startswith(B)))

    test.__name__ = name
    return test


def smollm2s_own(trill, folder, model):
    """The template of a published file. Its tokenizer is held against Hugging Face's elsewhere."""
    if not model:
        return "no --model"
    meta = json.loads(subprocess.run([*trill, "inspect", model, "--json"], capture_output=True, text=True).stdout)
    for flags, before in (["-sys", SYSTEM], [dict(role="system", content=SYSTEM)]), ([], []):
        got, messages = talk(trill, folder, model, flags)
        text = render(meta["chat_template"], before + messages[:-1], bos_token="<|im_start|>", eos_token="<|im_end|>")
        said = subprocess.run([*trill, "tokenize", "-m", model, "--parse-special", "--jsonl"], input=json.dumps(text),
                              capture_output=True, text=True).stdout
        same(got, json.loads(said))
    return None


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--trill", required=True)
    ap.add_argument("--model", help="SmolLM2-135M-Instruct, for the template in its own file")
    a = ap.parse_args()
    tests, failed = [published_2b4t, smollm2s_own, *map(family, FAMILIES)], 0
    for t in tests:
        with tempfile.TemporaryDirectory() as folder:
            try:
                skipped = t(shlex.split(a.trill), folder, a.model)
                print("skip" if skipped else "pass", t.__name__, skipped or "", flush=True)
            except AssertionError as e:
                failed += 1
                print("FAIL", t.__name__, e, flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
