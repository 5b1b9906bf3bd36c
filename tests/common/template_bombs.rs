//! Hostile chat templates from a seed: nested, repeated, growing, cyclic, and work that does not look like work.
//! It uses nothing but std, so that fuzz targets can take the file as it is.

/// A small generator of random numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Bytes that a template may have.
const SOURCE_MAX: usize = 64 << 10;

/// A kind of bomb and how one is made.
type Kind = (&'static str, fn(&mut Random) -> String);

/// Bomb number `n`, with its kind; the kinds take turns.
pub(crate) fn bomb(n: usize) -> (&'static str, String) {
    let (kind, make) = KINDS[n % KINDS.len()];
    let source = make(&mut Random::new(n as u64));
    assert!(source.len() <= SOURCE_MAX, "{kind}: {} bytes", source.len());
    (kind, source)
}

/// As often as `SOURCE_MAX` allows for pieces of `len` bytes, or a bit less often.
fn many(r: &mut Random, len: usize) -> usize {
    let most = (SOURCE_MAX - 2000) / len;
    most - r.below(most / 4 + 1)
}

const KINDS: &[Kind] = &[
    ("brackets", |r| {
        let (open, close) =
            [("(", ")"), ("[", "]"), ("{1:", "}"), ("x[", "]"), ("f(", ")"), ("not (", ")"), ("-(", ")")][r.below(7)];
        let n = many(r, open.len() + close.len());
        format!("{{{{ {}1{} }}}}", open.repeat(n), if r.below(4) == 0 { String::new() } else { close.repeat(n) })
    }),
    ("chains", |r| {
        let link = r.of(&[
            "+1",
            "-1",
            "*1",
            "~1",
            "**1",
            " and 1",
            " or 0",
            "<2",
            " in x",
            ".a",
            "[0]",
            "|e",
            "()",
            " is odd",
            " if 1 else 1",
            "%2",
        ]);
        format!("{{{{ 1{} }}}}", link.repeat(many(r, link.len())))
    }),
    ("signs", |r| {
        let sign = r.of(&["-", "+", "- ", "-+", "not "]);
        format!("{{{{ {}1 }}}}", sign.repeat(many(r, sign.len())))
    }),
    ("blocks", |r| {
        let (open, close) = [
            ("{% if 1 %}", "{% endif %}"),
            ("{% for i in [1] %}", "{% endfor %}"),
            ("{% for i in range(9) %}", "{% endfor %}"),
            ("{% filter upper %}", "{% endfilter %}"),
            ("{% set x %}", "{% endset %}"),
            ("{% macro f() %}", "{% endmacro %}"),
            ("{% with %}", "{% endwith %}"),
            ("{% generation %}", "{% endgeneration %}"),
            ("{% if 0 %}{% else %}", "{% endif %}"),
        ][r.below(9)];
        let n = if r.below(2) == 0 { 10 + r.below(90) } else { many(r, open.len() + close.len()) };
        format!("{}x{}", open.repeat(n), close.repeat(n))
    }),
    ("elif", |r| {
        let arm = r.of(&["{% elif 0 %}", "{% elif x.y %}", "{% elif 0 %}x"]);
        format!(
            "{{% for i in range(99999) %}}{{% if 0 %}}{}{{% endif %}}{{% endfor %}}",
            arm.repeat(many(r, arm.len()))
        )
    }),
    ("loops", |r| {
        let body = r.of(&[
            "",
            "x",
            "{{ i }}",
            "{% set y = i %}",
            "{{ loop.index ~ i }}",
            "{{ messages }}",
            "{% if i is odd %}{% endif %}",
        ]);
        let n = 2 + r.below(5);
        let range = r.of(&["range(99999)", "range(5000)", "'x' * 3000", "range(100)|list", "messages * 9000"]);
        let open = format!("{{% for i in {range} %}}");
        format!("{}{body}{}", open.repeat(n), "{% endfor %}".repeat(n))
    }),
    ("growing", |r| {
        let grow = r.of(&[
            "s + s",
            "s ~ s",
            "s * 2",
            "[s, s]|join",
            "s|replace('a', 'aa')",
            "s.replace('a', 'aaa')",
            "'%s%s' % (s, s)",
            "'{0}{0}'.format(s)",
            "s.join(['a', 'a', s])",
            "s|indent(99, true)",
            "s|center(s|length * 2)",
            "s.ljust(s|length * 2)",
            "(s ~ '<<')|escape",
            "(s ~ '&&')|urlencode",
            "s|tojson|tojson",
            "(s + '\\t').expandtabs(9999)",
            "s.upper() + s.title()",
            "s[::-1] + s",
        ]);
        let n = 20 + r.below(80);
        format!(
            "{{% set n = namespace(s='aaaaaaaaaaaaaaaa') %}}{{% for i in range({n}) %}}{{% set s = n.s %}}{{% set n.s = {grow} %}}{{% endfor %}}{{{{ n.s|length }}}}"
        )
    }),
    ("lists", |r| {
        let grow = r.of(&[
            "s + s",
            "s * 2",
            "[s, s]",
            "(s, s)",
            "{'a': s, 'b': s}",
            "s|list + s|list",
            "[s] * 2",
            "s|batch(1)|list",
            "[s]|sum(start=s)",
            "s|map('string')|list + s",
            "dict(a=s, b=s)",
            "(s|string|list)",
            "s|slice(999)|list",
        ]);
        let show = r.of(&[
            "n.s",
            "n.s|tojson",
            "n.s|length",
            "n.s == n.s + [1]",
            "n.s|string|length",
            "n.s|sort",
            "n.s|join",
            "n.s in [n.s, 1]",
        ]);
        let n = 15 + r.below(90);
        format!(
            "{{% set n = namespace(s=[1, 'a']) %}}{{% for i in range({n}) %}}{{% set s = n.s %}}{{% set n.s = {grow} %}}{{% endfor %}}{{{{ {show} }}}}"
        )
    }),
    ("deep values", |r| {
        let deeper = r.of(&[
            "[n.s]",
            "(n.s,)",
            "{'a': n.s}",
            "[[n.s]]",
            "dict(a=n.s)",
            "namespace(a=n.s)",
            "[n.s.items]",
            "[n.s]|list",
            "{n.s: 1}",
            "cycler(n.s)",
            "joiner(n.s)",
            "[n.s]|map('list')|list",
        ]);
        let show = r.of(&[
            "n.s",
            "n.s|tojson",
            "n.s == n.s",
            "n.s < n.s",
            "n.s|string|length",
            "'%r' % (n.s,)",
            "'{}'.format(n.s)",
            "[n.s]|sort",
            "[n.s, n.s]|unique|list",
            "''",
        ]);
        let n = 80 + r.below(99_000);
        format!(
            "{{% set n = namespace(s=[]) %}}{{% for i in range({n}) %}}{{% set n.s = {deeper} %}}{{% endfor %}}{{{{ {show} }}}}"
        )
    }),
    ("cycles", |r| {
        let make = r.of(&[
            "n.a = n",
            "n.a = [n]",
            "n.a = {'n': n}",
            "n.a = (1, [n])",
            "n.a = dict(n=n)",
            "n.a = namespace(n=n)",
            "n.a = cycler(n)",
            "n.a = joiner(n)",
            "n.a = [n]|map('list')",
            "n.a = loop",
            "n.a = [loop]",
            "n.a = loop.changed",
        ]);
        let show =
            r.of(&["n", "n|tojson", "n|string", "n == n.a", "[n]|sort", "'%s' % n", "n|pprint", "n.a.a.a", "n|list"]);
        format!(
            "{{% set n = namespace() %}}{{% for i in [n, 1] %}}{{{{ loop.changed(loop) if {} }}}}{{% set {make} %}}{{{{ {show} }}}}{{% endfor %}}{{{{ {show} }}}}",
            r.below(2)
        )
    }),
    ("comparing", |r| {
        let make = r.of(&[
            "'a' * 900000",
            "('a' * 900 ~ i) * 900",
            "[1] * 30000",
            "range(40000)|list",
            "['a' * 99] * 9000",
            "messages * 9999",
        ]);
        let compare = r.of(&[
            "a == b",
            "a < b",
            "a != b and a >= b",
            "a in [b, b, b]",
            "a in b",
            "a is eq b",
            "[a, b]|unique|list",
            "[a, b]|sort",
            "[a, b]|max",
            "{a: 1}[b]",
        ]);
        format!(
            "{{% set i = 1 %}}{{% set a = {make} %}}{{% set b = ({make}) %}}{{% for i in range(99999) %}}{{% set x = {compare} %}}{{% endfor %}}"
        )
    }),
    ("indexing", |r| {
        let take = r.of(&[
            "s[-1]",
            "s[i]",
            "s[i:]",
            "s[:-1]",
            "s[::2]",
            "s|last",
            "s|first",
            "s|length",
            "s|list",
            "s|reverse|first",
            "s[-i]",
            "s[::-1][0]",
        ]);
        let text = r.of(&["'é' * 400000", "'a' * 1500000", "'a\u{1f30a}' * 100000", "range(99999)", "'ab ' * 300000"]);
        format!("{{% set s = {text} %}}{{% for i in range(99999) %}}{{% set x = {take} %}}{{% endfor %}}")
    }),
    ("searching", |r| {
        let search = r.of(&[
            "s.find('b')",
            "s.rfind('ab')",
            "s.count('aa')",
            "'b' in s",
            "s.replace('b', 'c')",
            "s.split('b')",
            "s.split('a')",
            "s.rsplit('a', 5)",
            "s.strip('a')",
            "s.strip(s)",
            "s.lstrip(s)",
            "s.startswith(s)",
            "s.partition('b')",
            "s.splitlines()",
            "s.upper()",
            "s.lower() == s",
            "s|trim",
            "s|wordcount",
            "s|title",
            "s.isalpha()",
            "s|int",
            "s|float",
            "s.removeprefix(s)",
            "s|truncate",
            "s is lower",
            "s.encode()",
            "s.index('b')",
        ]);
        format!(
            "{{% set s = '{}' * {} %}}{{% for i in range(99999) %}}{{% set x = {search} %}}{{% endfor %}}",
            r.of(&["a", "aé", "ab", "a\\n"]),
            100_000 + r.below(400_000)
        )
    }),
    ("scripts", |r| {
        let look = r.of(&[
            "s.isalpha()",
            "s.isdigit()",
            "s.isprintable()",
            "s.upper()",
            "s.title()",
            "s|wordcount",
            "s is upper",
            "s.splitlines()",
            "s|indent",
            "s.swapcase()",
            "'%r' % s",
            "[s]|string",
            "s.isnumeric()",
            "s|capitalize",
            "s.casefold()",
            "s|tojson(ensure_ascii=true)",
            "s.strip('abé')",
            "s|list",
            "s|urlencode",
        ]);
        let scalar = r.of(&["é", "ß", "川", "٣", "\u{1f30a}", "ǆ", "\u{200b}", "\u{2028}"]);
        let n = 20_000 + r.below(200_000);
        format!("{{% set s = '{scalar}' * {n} %}}{{% for i in range(99999) %}}{{% set x = {look} %}}{{% endfor %}}")
    }),
    ("wide calls", |r| {
        let n = 100 + r.below(1500);
        let names =
            |before: &str, after: &str| (0..n).map(|i| format!("{before}{i}{after}")).collect::<Vec<_>>().join(",");
        match r.below(4) {
            0 => format!(
                "{{% macro f({}) %}}{{% endmacro %}}{{% for i in range(99999) %}}{{{{ f({}) }}}}{{% endfor %}}",
                names("a", ""),
                names("a", "=1")
            ),
            1 => format!(
                "{{% set d = dict({}) %}}{{% macro f({}) %}}{{% endmacro %}}{{% for i in range(99999) %}}{{{{ f(**d) }}}}{{% endfor %}}",
                names("a", "=1"),
                names("a", "")
            ),
            2 => format!(
                "{{% for i in range(99999) %}}{{% set x = ('{{a0}}' * 9000).format({}) %}}{{% endfor %}}",
                names("b", "=1") + ",a0=''"
            ),
            _ => format!(
                "{{% for i in range(99999) %}}{{% set x = range(999)|map('replace', 'a', 'b', *[1] * 900)|list %}}{{% set y = [{}]|map('default', {})|list %}}{{% endfor %}}",
                names("", ""),
                names("", "")
            ),
        }
    }),
    ("formatting", |r| {
        let format = r.of(&[
            "'%900000d' % 1",
            "'%*d' % (900000, 1)",
            "'%.999999f' % 1.5",
            "'{:>900000}'.format(1)",
            "'{:.99999f}'.format(1.5)",
            "('%s' * 9000) % (('a' * 900,) * 9000)",
            "('{0}' * 9000).format('a' * 900)",
            "1|string * 900000",
            "'a'|center(90000000)",
            "'a'.zfill(900000000)",
            "'\\n' * 90000 | indent(900)",
            "strftime_now('%Y' * 90)",
            "strftime_now('%Y' * 900000)",
            "strftime_now('%900000000Y')",
            "'%s' % ([1] * 60000)",
            "[1.1] * 60000 | string",
            "s|tojson(indent=64)",
            "('a' * 900000)|tojson(ensure_ascii=true)",
            "2 ** 62 ** 9",
            "9.9 ** 999",
            "10 ** 18 * 99",
        ]);
        format!(
            "{{% set s = [[[[[1]]]]] * 999 %}}{{% for i in range(99999) %}}{{{{ ({format})|length }}}}{{% endfor %}}"
        )
    }),
    ("macros", |r| {
        let body = r.of(&[
            "{{ f(n + 1) }}",
            "{{ f(n + 1) }}{{ f(n + 1) }}",
            "{{ f([n]) }}",
            "{% call f(n) %}{{ caller() }}{% endcall %}",
            "{{ f(n ~ n) }}",
            "{% for i in [1, 2] %}{{ f(i) }}{% endfor %}",
            "{% set x %}{{ f(n) }}{% endset %}{{ x ~ x }}",
            "{{ caller() }}{% call f(n) %}{{ caller() }}{% endcall %}",
            "{{ f(*[n]) }}",
            "{{ f(n=n) }}",
        ]);
        format!("{{% macro f(n) %}}{body}{{% endmacro %}}{{{{ f({}) }}}}", r.of(&["0", "'a'", "[]"]))
    }),
    ("doubling macros", |r| {
        let n = 10 + r.below(60);
        let call = r.of(&[
            "{{ mN() }}{{ mN() }}",
            "{{ mN() ~ mN() }}",
            "{% set x = mN() %}{{ x }}{{ x }}",
            "{% if mN() == mN() %}x{% endif %}",
        ]);
        let macros: String = (1..n)
            .map(|i| format!("{{% macro m{i}() %}}{}{{% endmacro %}}", call.replace("mN", &format!("m{}", i - 1))))
            .collect();
        format!("{{% macro m0() %}}{}{{% endmacro %}}{macros}{{{{ m{}() }}}}", "x".repeat(1 + r.below(3000)), n - 1)
    }),
    ("recursive loops", |r| {
        let body = r.of(&[
            "{{ loop([i]) }}",
            "{{ loop(i) }}",
            "{{ loop([i, i]) }}",
            "{{ loop(x) }}{{ loop(x) }}",
            "{{ loop(i * 2) }}",
            "{{ loop(loop) }}",
        ]);
        format!("{{% set x = [[1], [2]] %}}{{% for i in [x, x] recursive %}}{body}{{% endfor %}}")
    }),
    ("many names", |r| {
        let n = 1500 + r.below(1000);
        let sets: String = (0..n).map(|i| format!("{{% set a{i}=1 %}}")).collect();
        format!(
            "{}{sets}{{% for i in range(99999) %}}{{% set x = a0 + zz|length + a{} %}}{{% endfor %}}",
            r.of(&["", "{% set n = namespace() %}"]),
            n - 1
        )
    }),
    ("many keys", |r| {
        let n = 3000 + r.below(1500);
        let keys: String = (0..n).map(|i| format!("'{}{i}':1,", if i % 2 == 0 { "a" } else { "b" })).collect();
        format!(
            "{{% set d = {{{keys}}} %}}{{% for i in range(99999) %}}{{% set x = {} %}}{{% endfor %}}",
            r.of(&[
                "d.zz",
                "d['zz']",
                "d == d",
                "d|dictsort",
                "dict(d)",
                "d.items()",
                "'zz' in d",
                "d|tojson",
                "d.get('zz')"
            ])
        )
    }),
    ("filters in filters", |r| {
        let n = 50 + r.below(900);
        match r.below(4) {
            0 => format!("{{{{ [[[1]]]|map({} 'list')|list }}}}", "'map', ".repeat(n)),
            1 => format!("{{{{ range(9000){} }}}}", "|map('string')|list".repeat(n)),
            2 => format!("{{{{ ('a' * 90000){} }}}}", "|list|join".repeat(n)),
            _ => format!("{{{{ range(30000)|list{} }}}}", "|sort|reverse|list|unique|list".repeat(n)),
        }
    }),
    ("writing", |r| {
        let text = r.of(&[
            "{{ 'x' * 99999 }}",
            "{{ messages }}",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "{{ i }}",
            "{{ range(9999)|list }}",
            "{{ {'a': 'b' * 9999} }}",
        ]);
        format!("{{% for i in range(99999) %}}{text}{{% endfor %}}{}", "{{ messages }}".repeat(r.below(900)))
    }),
    ("malformed", |r| {
        let piece = r.of(&[
            "{%",
            "{{",
            "{#",
            "{% raw %}",
            "{% raw",
            "{{ '",
            "{{ \"\\",
            "{%-  ",
            "{{ 1.e",
            "{{ 0x",
            "{% if x",
            "{% for",
            "{% set x %}",
            "{% macro",
            "{{ x is ",
            "{{ x|",
            "{{ x.",
            "{{ [",
            "\u{fdd0}{{",
            "{% endif %}",
            "{{ 99999999999999999999999 }}",
        ]);
        piece.repeat(many(r, piece.len()))
    }),
];
