//! `trill detokenize`: ids to text.

use super::Command;
use super::tokenize::{json_lines, load};
use crate::engine;
use crate::exit::{Code, Failure, Outcome};
use crate::fence;
use crate::input;
use crate::options::Options;
use crate::report;
use trill::tokenizer::{DecodeOptions, Tokenizer};

pub(crate) const DETOKENIZE: Command = Command {
    name: "detokenize",
    summary: "turns token ids into text",
    usage: "detokenize -m MODEL [-p IDS | -f FILE] [--parse-special] [--json | --jsonl] < IDS",
    notes: "Ids are separated by spaces, commas or line ends. The text comes without a line end of its own, byte for\n\
            byte what was tokenized. --json and --jsonl: JSON strings; --jsonl reads a JSON array a line.",
    bit: 1 << 6,
    takes_model: false,
    operands: &[],
    run,
};

fn run(options: &Options) -> Outcome {
    let mut source = input::source(options)?;
    let opened = engine::open(options)?;
    fence::close(options)?;
    let tokenizer = load(&opened)?;
    let how = DecodeOptions { special: options.parse_special };
    if options.jsonl {
        return json_lines(
            source,
            |line| serde_json::from_slice(line),
            |ids: Vec<u32>, out| {
                out.push_str(&json_string(&decode(&tokenizer, &ids, how)?));
                Ok(())
            },
        );
    }
    let ids = parse(&input::utf8(input::rest(&mut *source)?)?)?;
    let text = decode(&tokenizer, &ids, how)?;
    if options.json {
        return report::json::print_line(&json_string(&text));
    }
    report::text::print_bytes(&text)
}

fn parse(text: &str) -> Outcome<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || "[],".contains(c)).filter(|w| !w.is_empty());
    words.map(|w| w.parse().map_err(|_| Failure::new(Code::Data, format!("'{w}' is not a token id")))).collect()
}

/// The bytes of a text's tokens.
fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32], how: DecodeOptions) -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    let mut piece = vec![0; tokenizer.piece_bytes_max()];
    let mut decoder = tokenizer.decoder(true);
    for &id in ids {
        let length = decoder.push(tokenizer, id, how, &mut piece)?;
        text.extend_from_slice(&piece[..length]);
    }
    Ok(text)
}

/// Bytes that are not UTF-8 cannot be in a JSON string: they become U+FFFD.
fn json_string(text: &[u8]) -> String {
    format!("{}\n", serde_json::Value::from(String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_any_common_form() {
        assert_eq!(parse(" [1, 2,3]\n4 ").unwrap(), [1, 2, 3, 4]);
        assert_eq!(parse("1 -2").unwrap_err().code, Code::Data);
    }
}
