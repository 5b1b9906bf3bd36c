//! The language by its results, and what ends a rendering. What each construct gives is what jinja2 3.1 gave;
//! `tests/oracle/templates.py` compares whole templates.

use super::*;

fn message(role: Role, content: &str) -> Message {
    Message { role, content: content.into() }
}

fn render(source: &str, messages: &[Message]) -> Outcome<String> {
    Ok(Template::new(source, "<s>", "</s>")?.render(messages, true, &|t| t.contains("<|")).map(|r| r.0)?)
}

#[test]
fn fallbacks() {
    let talk = [
        message(Role::System, "Be brief."),
        message(Role::User, "Hi"),
        message(Role::Assistant, "Hello"),
        message(Role::User, "Bye"),
    ];
    assert_eq!(
        render(fallback::CHATML, &talk).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        render(fallback::PLAIN, &talk).unwrap(),
        "Be brief.\n\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"
    );
}

#[test]
fn what_published_templates_use() {
    let source = "{%- set ns = namespace(found=false) -%}{{ bos_token }}\n\
        {%- for message in messages -%}\n    {%- if message['role'] == 'user' -%}{% set ns.found = true %}\n\
        {{- '[INST] ' + message['content'].strip().replace('a', 'b') + ' [/INST]' -}}\n    {%- endif -%}\n\
        {%- if loop.last and message.content.startswith('x') %}{% break %}{% endif -%}\n{%- endfor -%}\n\
        {%- if not ns.found %}{{ raise_exception('none') }}{% endif -%}{{ {'k': [1, 'é']} | tojson }}";
    assert_eq!(
        render(source, &[message(Role::User, " banana ")]).unwrap(),
        "<s>[INST] bbnbnb [/INST]{\"k\": [1, \"é\"]}"
    );
    let failure = render(source, &[message(Role::System, "x")]).unwrap_err();
    assert!(failure.code == Code::Data && failure.message.contains("none"));
    assert!(render("{{ strftime_now('%Y') }}", &[]).unwrap().starts_with("20"));
    assert_eq!(render("{{ [1, {'a': []}] | tojson(indent=2) }}", &[]).unwrap(), "[\n  1,\n  {\n    \"a\": []\n  }\n]");
    assert_eq!(
        render("{{ x is defined }}{{ messages[0].name is defined }}", &[message(Role::User, "x")]).unwrap(),
        "FalseFalse"
    );
}

#[test]
fn special_tokens_in_messages_stay_text() {
    let template = Template::new(fallback::CHATML, "", "").unwrap();
    let talk = [message(Role::User, " a<|im_end|>b\n"), message(Role::User, "plain \u{fdd0}text")];
    let rendered = template.render(&talk, false, &|t| t.contains("<|")).unwrap();
    assert_eq!(
        rendered.parts(),
        [
            Part::Template("<|im_start|>user\n "),
            Part::Quoted("a<|im_end|>b"),
            Part::Template("\n<|im_end|>\n<|im_start|>user\nplain text<|im_end|>\n"),
        ]
    );
}

/// A value of JSON.
fn from_json(budget: &Rc<Budget>, json: &serde_json::Value) -> Result<Value, Error> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int),
        Json::String(text) => Value::text(budget, text)?,
        Json::Array(items) => {
            let items: Result<Vec<Value>, Error> = items.iter().map(|item| from_json(budget, item)).collect();
            Value::list(budget, items?)?
        }
        Json::Object(entries) => {
            let mut new = Entries::new(budget);
            for (key, value) in entries {
                new.set(Value::text(budget, key)?, from_json(budget, value)?)?;
            }
            new.finish()?
        }
    })
}

/// A template rendered with variables from JSON.
fn render_json(source: &str, variables: &serde_json::Value) -> Result<String, Error> {
    let program = parser::parse(&lexer::normalised(source))?;
    let template = Template { program, bos: String::new(), eos: String::new(), thinking: None };
    let budget = Budget::for_rendering(variables.to_string().len(), 0);
    let mut context = Vec::new();
    for (name, value) in variables.as_object().expect("variables") {
        context.push((name.as_str(), from_json(&budget, value)?));
    }
    template.render_with(budget, &context)
}

/// `tests/golden/templates.json`: small templates, and what jinja2 makes of them; null where it refuses.
#[test]
fn as_jinja2() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/templates.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 300);
    let mut wrong = 0;
    for case in cases {
        let (source, want) = (case[0].as_str().unwrap(), case[1].as_str());
        let got = render_json(source, &golden["variables"]);
        if got.as_deref().ok() != want {
            wrong += 1;
            println!("{source}\n  jinja2: {want:?}\n  here:   {got:?}");
        }
    }
    assert_eq!(wrong, 0, "of {}", cases.len());
}

/// For `tests/oracle/templates.py`: renders the lines of the file that `TRILL_TEMPLATE_CASES` names, each a template and
/// its variables, into a file beside it.
#[test]
fn cases_from_outside() {
    let Some(path) = std::env::var_os("TRILL_TEMPLATE_CASES").map(std::path::PathBuf::from) else { return };
    let lines = std::fs::read_to_string(&path).unwrap();
    let rendered = lines.lines().map(|line| {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let line = match render_json(case["template"].as_str().unwrap(), &case["variables"]) {
            Ok(text) => serde_json::json!({"text": text}),
            Err(error) => serde_json::json!({"error": error.to_string(), "exhausted": error.exhausted}),
        };
        line.to_string() + "\n"
    });
    std::fs::write(path.with_extension("out"), rendered.collect::<String>()).unwrap();
}

/// Why a template is refused.
fn refusal(source: &str) -> String {
    let failure = render(source, &[message(Role::User, "hi")]).expect_err(source);
    assert_eq!(failure.code, Code::Data, "{source}");
    failure.message
}

#[test]
fn what_costs_too_much_ends() {
    for (source, why) in [
        ("{% for a in range(9000) %}{% for b in range(9000) %}{% endfor %}{% endfor %}", "runs too long"),
        ("{% for a in range(9999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxx' * 9999 }}{% endfor %}", "writes too much"),
        ("{{ 'x' * 1000000000000 }}", "memory"),
        ("{{ [1] * 1000000000000 }}", "memory"),
        ("{{ range(1000000000000) | list | length }}", "range"),
        ("{{ '%1000000000d' % 1 }}", "memory"),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "nests"),
        ("{% set n = namespace(s=[]) %}{% for i in range(9999) %}{% set n.s = [n.s] %}{% endfor %}", "nest"),
        (
            "{% set x = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set x.s = x.s + x.s %}{% endfor %}",
            "memory",
        ),
        (
            "{% set a = 'a' * 799999 %}{% set b = 'a' * 799999 %}{% for i in range(9999) %}{% set x = a == b %}{% endfor %}",
            "runs too long",
        ),
        ("{% set a = 'é' * 99999 %}{% for i in range(9999) %}{% set x = a[-1] %}{% endfor %}", "runs too long"),
        ("{{ ('a' * 999999).strip('b' * 99999 ~ 'a') }}", "runs too long"),
    ] {
        let said = refusal(source);
        assert!(said.contains(why), "{source}: {said}");
        let refused = Template::new(source, "", "").unwrap().render(&[], true, &|_| false).err().unwrap();
        assert!(refused.always, "{source}");
    }
    for source in ["{% include 'chat' %}", "{{ messages | frobnicate }}", "{% if %}", "{{ 1 // 0 }}"] {
        refusal(source);
    }
    assert!(Template::new(&"x".repeat(65 << 10), "", "").is_err());
    assert_eq!(render("{{ [] * 1000000000000 }}{{ '' * 1000000000000 }}", &[]).unwrap(), "[]");
}

#[test]
fn nothing_can_hold_itself() {
    for source in [
        "{% set n = namespace() %}{% set n.a = n %}",
        "{% set n = namespace() %}{% set n.a = [1, {'x': (n,)}] %}",
        "{% set n = namespace() %}{% set m = namespace(n=n) %}",
        "{% set n = namespace() %}{% set n.a = cycler(n) %}",
        "{% set n = namespace() %}{% set n.a = joiner(n) %}",
        "{% set n = namespace() %}{% for i in [n] %}{% set n.a = loop %}{% endfor %}",
        "{% set n = namespace() %}{% for i in [n] %}{% set n.a = loop.changed %}{% endfor %}",
        "{% for i in [1] %}{{ loop.changed(loop) }}{% endfor %}",
        "{% set n = namespace() %}{% for i in [1] %}{{ loop.changed([n]) }}{% endfor %}",
    ] {
        let said = refusal(source);
        assert!(said.contains("namespace"), "{source}: {said}");
    }
    // A macro that comes out of its place does not find its variables any more.
    let source =
        "{% set n = namespace() %}{% for i in [1] %}{% macro f() %}{{ i }}{% endmacro %}{% set n.f = f %}{% endfor %}";
    assert!(refusal(&format!("{source}{{{{ n.f() }}}}")).contains("outside"));
}

/// The deepest that source, values and calls may be, on a stack of 1 MiB.
#[test]
fn depth_needs_little_stack() {
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let mut sources = vec![
        "{% macro f(n) %}{% if 1 %}{% for i in [1] %}{{ [1, (f(n + 1) ~ 'x') | upper] }}{% endfor %}{% endif %}{% endmacro %}{{ f(0) }}".to_owned(),
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}".to_owned(),
        "{% for i in [[1]] recursive %}{{ loop([i]) }}{% endfor %}".to_owned(),
        "{% set n = namespace(s=1) %}{% for i in range(99) %}{% set n.s = [n.s, {'a': 1}] %}{% endfor %}\
         {{ n.s }}{{ n.s | tojson }}{{ n.s == [n.s] }}{{ n.s < n.s }}{{ n.s }}"
            .to_owned(),
        format!("{{{{ [[1]] | map({} 'list') | list }}}}", "'map', ".repeat(390)),
    ];
    for n in [40, 60, 99, 150, 190, 5000] {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{1: ", "}"),
            ("f(", ")"),
            ("x[", "]"),
            ("not (", ")"),
            ("-(", ")"),
            ("1 + 1 * (", ")"),
        ] {
            sources.push(format!("{{{{ {} }}}}", deep(open, close, n)));
        }
        for (open, close) in [
            ("{% if 1 %}", "{% endif %}"),
            ("{% for i in [1] %}", "{% endfor %}"),
            ("{% set x %}", "{% endset %}"),
            ("{% filter upper %}", "{% endfilter %}"),
        ] {
            sources.push(deep(open, close, n));
        }
    }
    for link in ["+1", "-1", "~1", " and 1", " < 2", ".a", "[0]", "|e", " if 1 else 1", "**1"] {
        sources.push(format!("{{{{ 1{} }}}}", link.repeat(32_000 / link.len())));
    }
    for sign in ["-", "+-", "not "] {
        sources.push(format!("{{{{ {}1 }}}}", sign.repeat(60_000 / sign.len())));
    }
    let thread = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || sources.iter().filter(|source| render(source, &[]).is_err()).count());
    let refused = thread.unwrap().join().unwrap();
    assert!(refused > 30, "{refused}");
}
