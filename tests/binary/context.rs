//! A full context: each policy does what it says, says so, and takes no more memory.

use crate::files::{Folder, stories};
use crate::run::{json, run, smollm2, trill};
use std::process::Output;

fn errors(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).expect("UTF-8 on standard error")
}

fn said(out: &Output) -> String {
    assert!(out.status.success(), "{}", errors(out));
    String::from_utf8(out.stdout.clone()).expect("UTF-8 on standard output")
}

/// Pairs of "N tokens (M held)": how much of each prompt was read.
fn read_and_held(told: &str) -> Vec<(usize, usize)> {
    let line = |l: &str| {
        let rest = l.split_once("read ")?.1;
        let (read, rest) = rest.split_once(" tokens (")?;
        Some((read.parse().ok()?, rest.split_once(" held)")?.0.parse().ok()?))
    };
    told.lines().filter_map(line).collect()
}

#[test]
fn a_text_slides_through_many_fillings_of_the_context() {
    let model = stories();
    let line = ["run", "-m", &model, "-p", "Once upon a time", "-n", "900", "-c", "96", "--temp", "0", "--ignore-eos"];
    let stopped = run(trill(&line), "");
    assert!(errors(&stopped).contains("context of 96 tokens is full"), "{}", errors(&stopped));
    for kv in ["f16", "q8", "q4", "q2"] {
        let with = |more: &[&'static str]| {
            let line = [&line[..], &["--context-policy", "slide", "--cache-type", kv], more].concat();
            run(trill(&line), "")
        };
        let first = with(&["-v", "-t", "1"]);
        let told = errors(&first);
        // 96 positions, of which about half are free after each slide.
        let slides = told.lines().filter(|l| l.contains("tokens is full: the oldest")).count();
        assert!((900 / 48..=900 / 40).contains(&slides), "{kv}: {slides}");
        assert!(told.contains("allocs since load: 0\n"), "{told}");
        assert!(said(&first).starts_with(&said(&stopped)), "{kv}: what was said before the first slide");
        // The same bits whatever the threads and batches, and without drafting.
        assert_eq!(said(&with(&["-t", "2", "-b", "3"])), said(&first), "{kv}");
        assert_eq!(said(&with(&["--draft", "off"])), said(&first), "{kv}");
    }
    let told = json(trill(&[&line[..], &["--context-shift", "--json"]].concat()));
    assert_eq!(told["token_ids"].as_array().map(Vec::len), Some(900));
    assert!(told["timings"]["forgotten_n"].as_u64().is_some_and(|n| n > 700), "{}", told["timings"]);
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let model = stories();
    let refused = |line: &[&str]| run(trill(&[&["run", "-m", &model, "-p", "x"], line].concat()), "").status.code();
    assert_eq!(refused(&["--context-policy", "summarise"]), Some(64));
    assert_eq!(refused(&["--context-policy", "forget"]), Some(64));
    assert_eq!(refused(&["-n", "1", "--no-context-shift"]), Some(0));
}

fn script(folder: &Folder, lines: usize) -> String {
    let path = folder.file("talk.txt");
    let text: String = (0..lines).map(|i| format!("Tell me about thing number {i}, please.\n")).collect();
    std::fs::write(&path, text).expect("a script");
    path
}

#[test]
fn a_conversation_slides_by_whole_turns_without_reading_again() {
    let folder = Folder::new("slide");
    let (model, script) = (stories(), script(&folder, 30));
    let line = ["chat", "-m", &model, "-f", &script, "-c", "256", "-n", "24", "--temp", "0", "-v"];
    let out = run(trill(&line), "");
    let told = errors(&out);
    assert!(out.status.success() && told.contains("turns are forgotten"), "{told}");
    let turns = read_and_held(&told);
    assert_eq!(turns.len(), 30, "{told}");
    // Every message is about as long; after a slide no more than the new message is read.
    let longest = turns.iter().map(|t| t.0).max().unwrap();
    assert!(longest < 80, "{turns:?}");
    // Stopping instead: the conversation ends with an error when the context is full.
    let out = run(trill(&[&line[..], &["--context-policy", "stop"]].concat()), "");
    assert_eq!(out.status.code(), Some(65), "{}", errors(&out));
}

#[test]
fn a_conversation_can_be_condensed() {
    let folder = Folder::new("condense");
    let (model, script) = (stories(), script(&folder, 30));
    let line = [
        "chat",
        "-m",
        &model,
        "-f",
        &script,
        "-c",
        "256",
        "-n",
        "24",
        "--temp",
        "0",
        "-v",
        "--context-policy",
        "summarise",
    ];
    let out = run(trill(&line), "");
    let told = errors(&out);
    assert!(out.status.success() && told.contains("are a short note from now on"), "{told}");
    assert!(told.lines().any(|l| l.contains("note: ")), "{told}");
}

/// A context of a few turns, filled again and again: the system message is never read again, and the talk goes on.
#[test]
fn the_system_message_stays() {
    let Some(model) = smollm2() else { return };
    let model = model.to_str().unwrap();
    let folder = Folder::new("system");
    let script = script(&folder, 8);
    let system = "You are a helpful assistant named Bob. You answer in English.";
    let line = ["chat", "-m", model, "-f", &script, "-sys", system, "-c", "256", "-n", "64", "--temp", "0", "-v"];
    let out = run(trill(&line), "");
    let told = errors(&out);
    assert!(told.contains("turns are forgotten"), "{told}");
    let turns = read_and_held(&told);
    assert!(turns.len() == 8 && turns.iter().skip(1).all(|t| t.1 >= 20), "{turns:?}");
    assert!(said(&out).split_whitespace().count() > 200, "{}", said(&out));
}
