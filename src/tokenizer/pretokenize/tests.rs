use super::*;
use std::string::{String, ToString};
use std::vec::Vec;

fn words(name: &str, text: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let pre = Pretokenizer::named(name).unwrap();
    pre.split(text, &mut |w| {
        assert!(!w.is_empty());
        out.push(String::from_utf8_lossy(w).to_string());
        Ok(())
    })
    .unwrap();
    out
}

#[test]
fn names_are_unique() {
    let names: Vec<&str> = ALL.iter().flat_map(|p| core::iter::once(p.name).chain(p.aliases.iter().copied())).collect();
    assert!(names.iter().enumerate().all(|(i, n)| !names[..i].contains(n)));
    assert!(Pretokenizer::named("no-such-rule").is_none());
}

#[test]
fn joined_words_are_the_text_for_any_bytes() {
    let mut x = 7u64;
    for round in 0..2000 {
        let text: Vec<u8> = (0..round % 97)
            .map(|_| {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let pool = b"aZ \n\r\t'sS9/\xc3\xa9\xe4\xb8\xad\xcc\x81\xf0\x9f\x98\x80\xff\x80!$";
                pool[(x >> 40) as usize % pool.len()]
            })
            .collect();
        for pre in ALL {
            let mut joined = Vec::new();
            pre.split(&text, &mut |w| {
                joined.extend_from_slice(w);
                Ok(())
            })
            .unwrap();
            assert_eq!(joined, text, "{}", pre.name);
        }
    }
}

#[test]
fn splits_as_the_expressions_say() {
    assert_eq!(words("gpt-2", b"I've  12 cats!\n\n"), ["I", "'ve", " ", " 12", " cats", "!", "\n\n"]);
    assert_eq!(words("smollm", b" 123x"), [" ", "1", "2", "3", "x"]);
    assert_eq!(words("llama-bpe", b"I'VE 12345\n x\r\n\ty"), ["I", "'VE", " ", "123", "45", "\n", " x", "\r\n", "\ty"]);
    assert_eq!(words("qwen2", b"a123 b"), ["a", "1", "2", "3", " b"]);
    assert_eq!(words("gpt-4o", "helloWORLDFoo's ÉTÉ".as_bytes()), ["hello", "WORLDFoo's", " ÉTÉ"]);
    assert_eq!(words("tekken", b"fooBar's//\n"), ["foo", "Bar", "'s", "//\n"]);
    assert_eq!(words("falcon", b"a+12345"), ["a", "+", "123", "45"]);
    assert_eq!(words("deepseek-v3", "x1234中文かな.Foo".as_bytes()), ["x", "123", "4", "中文かな", ".Foo"]);
    assert_eq!(words("deepseek-llm", b"Ab 12  \n"), ["Ab", " ", "12", "  ", "\n"]);
}
