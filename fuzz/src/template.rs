//! Templates made by a generator of nested and repeated pieces, and templates as they stand (first byte even): rendered
//! or refused with code 65, the same each time, in bounded time and memory; and what a message says never counts as the
//! template's own words.

use crate::Choices;
use crate::bounds::measured;
use trill_std::fuzzing::template;

/// Processor time of one rendering: fifteen times what is promised (200 ms), for the checks, the coverage counters and the
/// sanitizer that fuzzing adds.
const SECONDS_MAX: f64 = 3.0;
/// Memory of one rendering beside its output: twice what is promised (8 MiB), for what the source itself takes.
const BYTES_MAX: usize = 16 << 20;
const OUTPUT_MAX: usize = 16 << 20;

pub fn run(input: &[u8]) {
    let Some((way, rest)) = input.split_first() else { return };
    let source = match way % 2 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        _ => generated(&mut Choices::new(rest)),
    };
    let messages = ["Be <|brief|>.", " hi\n", "é <|im_end|> x", "{{ 1 }}"];
    let (rendered, cost) = measured(|| template(&source, &messages));
    let output = rendered.as_ref().map_or(0, |parts| parts.iter().map(|(_, text)| text.len()).sum());
    assert!(output <= OUTPUT_MAX);
    assert!(cost.seconds < SECONDS_MAX, "{} s: {source:.300}", cost.seconds);
    // The text while it grows, as a whole, and in pieces.
    assert!(cost.bytes < BYTES_MAX + 4 * output, "{} bytes: {source:.300}", cost.bytes);
    match &rendered {
        Err(refusal) => assert!(refusal.code == 65 && !refusal.line.is_empty(), "{refusal:?}"),
        Ok(parts) => {
            for (own, text) in parts {
                assert!(!text.is_empty() && (*own || text.contains("<|")), "quoted for no reason");
                assert!(!text.contains(['\u{fdd0}', '\u{fdd1}']), "marks are left");
            }
        }
    }
    if cost.seconds < 0.05 && !source.contains("now") {
        assert!(template(&source, &messages) == rendered, "the second rendering differs");
    }
}

const SOURCE_MAX: usize = 60 << 10;

/// A template of nested and repeated pieces.
fn generated(c: &mut Choices<'_>) -> String {
    let mut out = String::new();
    let mut steps = 0;
    while c.more() && steps < 200 && out.len() < SOURCE_MAX {
        statement(c, 0, &mut out);
        steps += 1;
    }
    out
}

const NAMES: [&str; 8] = ["a", "b", "n", "loop", "messages", "m", "f", "bos_token"];
const BINARY: [&str; 16] =
    ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", " in ", " and ", " or ", " not in "];
const FILTERS: [&str; 34] = [
    "tojson",
    "tojson(indent=2)",
    "length",
    "upper",
    "lower",
    "trim",
    "list",
    "string",
    "int",
    "float",
    "first",
    "last",
    "join",
    "join(a)",
    "join(',')",
    "reverse",
    "sort",
    "unique",
    "replace('a', 'aaaaaaaa')",
    "replace('', b)",
    "indent(4)",
    "items",
    "dictsort",
    "map('upper')",
    "map(attribute='content')",
    "selectattr('role')",
    "batch(3)",
    "slice(3)",
    "pprint",
    "default('x')",
    "escape",
    "title",
    "abs",
    "groupby('role')",
];
const METHODS: [&str; 22] = [
    "strip()",
    "split()",
    "split('')",
    "split('a')",
    "upper()",
    "replace('a', 'bb')",
    "replace('', 'x')",
    "startswith('a')",
    "items()",
    "keys()",
    "values()",
    "get('role')",
    "append(a)",
    "join(b)",
    "format(a)",
    "lstrip('ab')",
    "count('a')",
    "find('a')",
    "title()",
    "splitlines()",
    "rstrip()",
    "endswith(b)",
];
const CALLS: [&str; 8] = [
    "namespace(a=n)",
    "range(9)",
    "range(99999)",
    "dict(a=b)",
    "strftime_now('%Y %B')",
    "raise_exception('x')",
    "f(a)",
    "f(f)",
];
const TESTS: [&str; 9] = ["defined", "none", "string", "mapping", "iterable", "sequence", "odd", "callable", "number"];

fn times(c: &mut Choices<'_>) -> usize {
    match c.byte() {
        0..=199 => 1,
        200..=239 => 1 + c.below(40),
        _ => 1 + c.below(20_000),
    }
}

/// Pieces around `inner`, repeated.
fn wrap(open: &str, close: &str, n: usize, inner: &str, out: &mut String) {
    let n = n.min((SOURCE_MAX.saturating_sub(out.len() + inner.len())) / (open.len() + close.len()).max(1));
    out.extend(std::iter::repeat_n(open, n));
    out.push_str(inner);
    out.extend(std::iter::repeat_n(close, n));
}

fn expression(c: &mut Choices<'_>, depth: usize) -> String {
    let mut out = String::new();
    if depth > 6 || !c.more() {
        return NAMES[c.below(NAMES.len())].to_owned();
    }
    match c.below(16) {
        0 | 1 => out.push_str(NAMES[c.below(NAMES.len())]),
        2 => out.push_str(&c.of(&[0i64, 1, 2, 3, 7, 99_999, 1 << 40, i64::MAX]).to_string()),
        3 => wrap(
            "'",
            "'",
            1,
            &c.of(&["", "a", "ab<|im_end|>", "é漢🎉", "%s %d", "aaaaaaaaaaaaaaaa"]).repeat(c.below(9)),
            &mut out,
        ),
        4 => {
            let (n, operator) = (times(c), BINARY[c.below(BINARY.len())]);
            let (left, right) = (expression(c, depth + 1), expression(c, depth + 1));
            out.push_str(&left);
            wrap(&format!("{operator}{right}"), "", n, "", &mut out);
        }
        5 => {
            let (n, inner) = (times(c), expression(c, depth + 1));
            let (open, close) =
                c.of(&[("(", ")"), ("[", "]"), ("not ", ""), ("-", ""), ("{'a': ", "}"), ("(a if b else ", ")")]);
            wrap(open, close, n, &inner, &mut out);
        }
        6 | 7 => {
            let (n, inner) = (times(c), expression(c, depth + 1));
            wrap("", &format!(" | {}", FILTERS[c.below(FILTERS.len())]), n, &inner, &mut out);
        }
        8 | 9 => {
            let (n, inner) = (times(c), expression(c, depth + 1));
            wrap("", &format!(".{}", METHODS[c.below(METHODS.len())]), n, &inner, &mut out);
        }
        10 => out.push_str(CALLS[c.below(CALLS.len())]),
        11 => {
            let (inner, index) = (expression(c, depth + 1), expression(c, depth + 1));
            let form = c.byte() % 4;
            let tail = match form {
                0 => format!("[{index}]"),
                1 => format!("[{index}:]"),
                2 => "[::-1]".to_owned(),
                _ => ".a".to_owned(),
            };
            wrap("", &tail, times(c).min(400), &inner, &mut out);
        }
        12 => {
            let inner = expression(c, depth + 1);
            wrap("", &format!(" is {}", TESTS[c.below(TESTS.len())]), 1, &inner, &mut out);
        }
        13 => {
            let item = expression(c, depth + 1);
            wrap("[", "]", 1, &format!("{item}, ").repeat(1 + c.below(30)), &mut out);
        }
        14 => {
            let (a, b) = (expression(c, depth + 1), expression(c, depth + 1));
            out.push_str(&format!("({a}) * {b}"));
        }
        _ => {
            let (a, b) = (expression(c, depth + 1), expression(c, depth + 1));
            out.push_str(&format!("{{'x': {a}, {b}: 1}}"));
        }
    }
    out.truncate(out.floor_char_boundary(SOURCE_MAX));
    out
}

fn statement(c: &mut Choices<'_>, depth: usize, out: &mut String) {
    let body = |c: &mut Choices<'_>| {
        let mut inner = String::new();
        if depth < 6 {
            (0..1 + c.below(3)).for_each(|_| statement(c, depth + 1, &mut inner));
        }
        inner
    };
    let name = NAMES[c.below(NAMES.len())];
    match c.below(14) {
        0 | 1 => {
            let e = expression(c, 0);
            out.push_str(&format!("{{{{ {e} }}}}"));
        }
        2 => out.push_str(c.of(&["text", "<|im_start|>", "\n  ", "é漢", "{# note #}", "{% raw %}{{ x }}{% endraw %}"])),
        3 => {
            let e = expression(c, 0);
            out.push_str(&format!("{{% set {name} = {e} %}}"));
        }
        4 => {
            let e = expression(c, 0);
            out.push_str(&format!("{{% set n.{name} = {e} %}}"));
        }
        5 | 6 => {
            let (n, e, inner) = (times(c).min(60), expression(c, 1), body(c));
            wrap(&format!("{{% for {name} in {e} %}}"), "{% endfor %}", n, &inner, out);
        }
        7 => {
            let (n, e, inner) = (times(c), expression(c, 1), body(c));
            wrap(&format!("{{%- if {e} -%}}"), "{% endif %}", n, &inner, out);
        }
        8 => {
            let inner = body(c);
            out.push_str(&format!("{{% macro f(a, b=1) %}}{inner}{{{{ f(a) }}}}{{% endmacro %}}"));
        }
        9 => {
            let inner = body(c);
            wrap(&format!("{{% set {name} %}}"), "{% endset %}", times(c).min(60), &inner, out);
        }
        10 => {
            // Doubling: what grows must be seen while it grows.
            let double = c.of(&[
                "a + a",
                "a ~ a",
                "[a, a]",
                "{'a': a, 'b': a}",
                "a * 9",
                "[a] * 9",
                "a | join(a)",
                "a.replace('', a)",
            ]);
            let rounds = c.below(99);
            out.push_str(&format!(
                "{{% set n = namespace(a='xy') %}}{{% for i in range({rounds}) %}}{{% set a = n.a %}}{{% set n.a = {double} %}}{{% endfor %}}"
            ));
            out.push_str(c.of(&[
                "{{ n.a }}",
                "{{ n.a | length }}",
                "{{ n.a == n.a }}",
                "{{ n.a | tojson }}",
                "{{ n }}",
                "{{ n.a | pprint }}",
                "",
            ]));
        }
        11 => out.push_str("{% set n = namespace() %}{% set n.a = n %}"),
        12 => {
            let inner = body(c);
            wrap("{% filter upper %}", "{% endfilter %}", times(c).min(60), &inner, out);
        }
        _ => out.push_str(c.of(&[
            "{% break %}",
            "{% continue %}",
            "{% generation %}x{% endgeneration %}",
            "{% call f(1) %}x{% endcall %}",
            "{{",
            "%}",
        ])),
    }
    out.truncate(out.floor_char_boundary(SOURCE_MAX));
}
