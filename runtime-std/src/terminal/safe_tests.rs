use super::*;
use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// What is shown of `pieces`, one after the other.
fn pieces<'a>(style: Style, pieces: impl IntoIterator<Item = &'a str>) -> String {
    let (mut filter, mut out) = (Filter::new(style), String::new());
    for piece in pieces {
        piece.chars().for_each(|c| filter.push(c, &mut |shown| out.push(shown)));
    }
    filter.finish(&mut |shown| out.push(shown));
    out
}

#[track_caller]
fn shows(text: &str, want: &str) {
    assert_eq!(neutralise(text), want, "{text:?}");
}

#[track_caller]
fn passes(text: &str) {
    shows(text, text);
    assert_eq!(escape_json(text), text, "{text:?}");
}

/// U+FFFD stands for each of `bad` between two letters, and JSON escapes it.
#[track_caller]
fn refused(bad: impl IntoIterator<Item = char>) {
    for c in bad {
        for around in ["ab", "漢字", "אב", "1🎉", "कख"] {
            let (a, b) = (around.chars().next().unwrap(), around.chars().nth(1).unwrap());
            shows(&format!("{a}{c}{b}"), &format!("{a}\u{fffd}{b}"));
            let json = escape_json(&format!("\"{a}{c}{b}\""));
            assert!(json.is_ascii() || !json.contains(c), "{c:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), format!("{a}{c}{b}"));
        }
    }
}

#[test]
fn controls_become_pictures() {
    shows("a\x1b]0;title\x07b\r\u{9b}31mc\n\td\u{7f}é🎉", "a␛]0;title␇b␍\u{fffd}31mc\n\td␡é🎉");
    shows("\0\x08\x0b\x0c\x0e\x1f", "␀␈␋␌␎␟");
    refused('\u{80}'..='\u{9f}');
}

#[test]
fn nothing_hides_or_turns_text() {
    refused(('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}'));
    refused(['\u{2028}', '\u{2029}', '\u{feff}', '\u{ad}', '\u{34f}', '\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}']);
    refused(('\u{2060}'..='\u{2064}').chain('\u{206a}'..='\u{206f}').chain('\u{fff9}'..='\u{fffb}'));
    refused(('\u{e0000}'..='\u{e007f}').chain('\u{e0100}'..='\u{e01ef}'));
    refused(('\u{fe00}'..='\u{fe0d}').chain('\u{1d173}'..='\u{1d17a}').chain('\u{1bca0}'..='\u{1bca3}'));
    // Private use: nobody agrees what it shows; U+10EEEE places images in one terminal.
    refused(['\u{e000}', '\u{e0b0}', '\u{f8ff}', '\u{f0000}', '\u{10eeee}', '\u{10fffd}']);
    // Not assigned, and not characters.
    refused(['\u{378}', '\u{fdd0}', '\u{fffe}', '\u{ffff}', '\u{10ffff}', '\u{2065}', '\u{1ffff}', '\u{50000}']);
}

#[test]
fn every_code_point_alone_is_visible_or_replaced() {
    for c in (0..=0x10ffff).filter_map(char::from_u32) {
        let shown = neutralise(&c.to_string());
        let only = shown.chars().next().unwrap();
        assert_eq!(shown.chars().count(), 1, "{c:?}");
        let harmful = matches!(
            get_general_category(c),
            Category::Control
                | Category::Format
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::PrivateUse
        );
        let sign = matches!(
            c,
            '\u{600}'
                ..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{110bd}' | '\u{110cd}'
        );
        if harmful && !sign && c != '\n' && c != '\t' {
            assert!(matches!(only, '\u{fffd}' | '\u{2400}'..='\u{2421}'), "{c:?}");
        }
        let letter = matches!(
            get_general_category(c),
            Category::UppercaseLetter
                | Category::LowercaseLetter
                | Category::DecimalNumber
                | Category::CurrencySymbol
                | Category::SpaceSeparator
        );
        assert!(!letter || only == c, "{c:?}");
        let json = escape_json(&format!("\"{}\"", if c < ' ' || c == '"' || c == '\\' { 'x' } else { c }));
        serde_json::from_str::<String>(&json).unwrap();
    }
}

#[test]
fn emoji_read_right() {
    for emoji in [
        "🎉",
        "❤️",
        "❤︎",
        "☺️",
        "✈️",
        "👍🏽",
        "👩‍👩‍👧‍👦",
        "👩🏻‍❤️‍💋‍👨🏿",
        "🏳️‍🌈",
        "🏴‍☠️",
        "🧑🏾‍🚀",
        "🐻‍❄️",
        "❤️‍🔥",
        "🙂‍↔️",
        "🕵🏻‍♂️",
        "1️⃣",
        "#️⃣",
        "*⃣",
        "🇩🇪🇯🇵",
        "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}!",
        "🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}🏴",
        "\u{1fadd}", // assigned to nothing yet, in a place kept for pictographs
    ] {
        passes(emoji);
        passes(&format!("a {emoji} b\n{emoji}{emoji}"));
    }
}

#[test]
fn invisible_characters_pass_only_where_they_work() {
    shows("a\u{200d}b", "a\u{fffd}b");
    shows("a\u{200c}b", "a\u{fffd}b");
    shows("a\u{fe0f}", "a\u{fffd}");
    shows("漢\u{fe0f}", "漢\u{fffd}");
    shows("🎉\u{200d}", "🎉\u{fffd}");
    shows("🎉\u{200d}a", "🎉\u{fffd}a");
    shows("🎉\u{200d}\u{200d}🎉", "🎉\u{fffd}\u{fffd}🎉");
    shows("🎉\u{200d}\u{1b}[2J", "🎉\u{fffd}␛[2J");
    shows("🎉\u{200c}🎉", "🎉\u{fffd}🎉");
    shows("❤\u{fe0f}\u{fe0f}", "❤\u{fe0f}\u{fffd}");
    shows("\u{200d}🎉\u{fe0f}", "\u{fffd}🎉\u{fe0f}");
    shows("\u{fe0f}\n\u{fe0f}", "\u{fffd}\n\u{fffd}");
    shows("می\u{200c}\u{200c}خ", "می\u{200c}\u{fffd}خ");
    shows("a\u{200b}b", "a\u{fffd}b");
    shows("ก\u{200b}\u{200b}ข", "ก\u{200b}\u{fffd}ข");
    // Tags spell nothing but the three flags.
    shows("🏴\u{e0061}\u{e0062}", "🏴\u{fffd}\u{fffd}");
    shows("🏴\u{e0067}\u{e0062}\u{e0065}", "🏴\u{fffd}\u{fffd}\u{fffd}");
    shows("🏴\u{e0067}\u{e0062}x", "🏴\u{fffd}\u{fffd}x");
    shows("🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e0067}\u{e007f}", &format!("🏴{}", "\u{fffd}".repeat(7)));
    shows("🎉\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}", &format!("🎉{}", "\u{fffd}".repeat(6)));
    let flag = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
    shows(&format!("{flag}\u{e0061}"), &format!("{flag}\u{fffd}"));
}

#[test]
fn directions_pass_where_they_do_nothing_that_letters_could_not() {
    for mark in ['\u{200e}', '\u{200f}', '\u{61c}'] {
        shows(&format!("a{mark}b"), "a\u{fffd}b");
        shows(&format!("{mark}"), "\u{fffd}");
        passes(&format!("שלום!{mark} C++"));
        passes(&format!("السعر 5{mark} درهم"));
        shows(&format!("ש{mark}{mark}"), &format!("ש{mark}\u{fffd}"));
        // The next line has no such letter.
        shows(&format!("ש\na{mark}"), "ש\na\u{fffd}");
    }
}

#[test]
fn languages_read_right() {
    for text in [
        "می‌خواهم کتاب‌ها را بخوانم", // Persian with ZWNJ
        "۵‌ام، 10‌ام",
        "سنة ١٤٤٥ هـ‍",
        "क्‍ष क्‌ष र्‍य", // half forms
        "ন্‍ত ക്‍ ශ්‍රී",  // Bengali, Malayalam, Sinhala
        "שָׁלוֹם עֲלֵיכֶם",
        "בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים",
        "ٱلْحَمْدُ لِلَّٰهِ رَبِّ ٱلْعَٰلَمِينَ",
        "น้ำ ที่นี่ ก็",
        "ភាសា\u{200b}ខ្មែរ ស្ត្រី",
        "မြန်မာ\u{200b}ဘာသာ ကြွှေ",
        "བསྒྲུབས་ ཧཱུཾ",
        "ᠮᠣᠩᠭᠣᠯ\u{180b} ᠨ\u{180e}ᠠ",
        "Tiếng Việt e\u{302}\u{301} ố",
        "각 \u{1112}\u{1161}\u{11ab}", // Hangul, also as single letters
        "漢字かな交じり文、「引用」…",
        "naïve — “quotes” ½ € 𝔘𝔫𝔦 \u{a0}\u{2003}",
        "ꦲꦏ꧀ꦱꦫ 𑀩𑁆𑀭𑀸 𞤀𞤣𞤤𞤢𞤥",
        "א֑ב ܐܒ ߊߋ \u{600}١٢",
    ] {
        passes(text);
    }
}

#[test]
fn marks_do_not_pile_up() {
    let zalgo = |n: usize| format!("a{}b", "\u{30d}".repeat(n));
    passes(&zalgo(8));
    shows(&zalgo(9), &format!("a{}\u{fffd}b", "\u{30d}".repeat(8)));
    shows(&zalgo(5000), &format!("a{}\u{fffd}b", "\u{30d}".repeat(8)));
    let mixed = format!("a{}", "\u{301}\u{20dd}\u{1ab0}\u{93f}".repeat(100));
    assert_eq!(neutralise(&mixed).chars().count(), 1 + 8 + 1);
    assert_eq!(neutralise(&format!("ᄀ{}", "\u{1161}".repeat(100))).chars().count(), 1 + 8 + 1);
    // Nor do pictographs without end in one place.
    let chain = vec!["👩"; 50].join("\u{200d}");
    assert!(neutralise(&chain).contains('\u{fffd}'));
    // As JSON nothing is dropped.
    let json = format!("\"{}\"", zalgo(50));
    assert_eq!(serde_json::from_str::<String>(&escape_json(&json)).unwrap(), zalgo(50));
    assert_eq!(escape_json(&json).matches("\\u030d").count(), 42);
}

#[test]
fn pieces_are_as_the_whole() {
    let text = "a\x1b[31mé\u{9b}2J👩🏻‍❤️‍💋‍👨🏿 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}🏴\u{e0067}\u{e0062}x می\u{200c}خ\n🎉\u{200d}a1️⃣\
                שלום\u{200f}!\n\u{200f}e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301} ก\u{200b}ข\u{202e}\u{feff}\u{e0100}x";
    for style in [Style::Picture, Style::Escape] {
        let whole = pieces(style, [text]);
        let cuts: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
        for &a in &cuts {
            for &b in cuts.iter().filter(|&&b| b >= a) {
                assert_eq!(pieces(style, [&text[..a], &text[a..b], &text[b..]]), whole, "{a} {b}");
            }
        }
        assert_eq!(pieces(style, text.split_inclusive(|_| true)), whole);
    }
}

#[test]
fn texts_end_where_they_end() {
    let (mut filter, mut out) = (Filter::new(Style::Picture), String::new());
    for text in ["🎉\u{200d}", "🎉", "🏴\u{e0067}", "\u{e0062}", "ש", "\u{200f}"] {
        text.chars().for_each(|c| filter.push(c, &mut |shown| out.push(shown)));
        filter.finish(&mut |shown| out.push(shown));
    }
    assert_eq!(out, "🎉\u{fffd}🎉🏴\u{fffd}\u{fffd}ש\u{fffd}");
}

#[test]
fn lines_stay_lines() {
    assert_eq!(neutralise_line("a\nb\r\nc\u{2028}\x1b"), "a b  c\u{fffd}␛");
}

#[test]
fn json_means_the_same() {
    let value = serde_json::json!({"k\u{202e}\u{9b}": ["\x1b[2J\u{7f}\u{9b}1m\\", "\\\u{200b}\u{10eeee}", "👩‍🚀 می\u{200c}خ\n"], "n": 1.5e-7});
    let shown = escape_json(&value.to_string());
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    assert!(
        shown.contains("👩‍🚀 می\u{200c}خ\\n") && shown.contains("\\u202e\\u009b") && shown.contains("\\udbfb\\udeee"),
        "{shown}"
    );
    assert!(!shown.chars().any(|c| c.is_control()), "{shown}");
}
