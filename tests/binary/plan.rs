//! The memory plan: what `trill plan` says is what a run takes, and what a run obeys.

use crate::files::stories;
use crate::limits::limited;
use crate::run::{answer, json, run, smollm2, trill};
use serde_json::Value;
use std::process::Output;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn plan(model: &str, flags: &[&str]) -> Value {
    json(trill(&[&["plan", model, "--json"], flags].concat()))
}

fn bytes(plan: &Value, key: &str) -> u64 {
    plan[key].as_u64().unwrap_or_else(|| panic!("no {key} in {plan}"))
}

fn errors(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).expect("UTF-8 on standard error")
}

/// The number in parentheses of the line that starts with `what`, as `-v` says it.
fn told(out: &Output, what: &str) -> u64 {
    let text = errors(out);
    let line = text.lines().find(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what:?} in {text}"));
    line.rsplit('(').next().and_then(|l| l.split(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn plan_adds_up_and_says_what_fits() {
    let model = stories();
    let said = plan(&model, &["-c", "300", "-t", "2"]);
    let sum = ["weights_bytes", "kv_bytes", "scratch_bytes"].iter().map(|k| bytes(&said, k)).sum::<u64>();
    assert_eq!(bytes(&said, "total_bytes"), sum);
    assert_eq!(said["fits"], true);
    assert_eq!(bytes(&said, "weights_bytes"), std::fs::metadata(&model).unwrap().len());
    assert!(bytes(&said, "max_ctx") > 300 && said["machine"]["page_bytes"].as_u64().is_some());
    // 6 layers, keys and values of the context in f16.
    assert_eq!(bytes(&said, "kv_bytes") % (300 * 6 * 2 * 2), 0);
    let packed = bytes(&plan(&model, &["-c", "300", "--cache-type", "q4"]), "kv_bytes");
    assert!(packed < bytes(&said, "kv_bytes"));
    let huge = plan(&model, &["-c", "1000000", "-t", "2", "--cache-type", "q8"]);
    assert!(bytes(&huge, "kv_bytes") > 1 << 30);
    let text = answer(trill(&["plan", &model, "-c", "300"]), "");
    for part in ["weights (mapped)", "keys and values", "logits", "stacks", "in all", "fits", "page size"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(answer(trill(&["plan", &model, "--no-mmap"]), "").contains("weights (copied)"));
}

#[test]
fn plan_knows_the_address_space_limit() {
    let model = stories();
    let limit = bytes(&plan(&model, &["-c", "2000", "-t", "2"]), "address_space_bytes");
    let under =
        |limit: u64, context: &str| json(limited(trill(&["plan", &model, "-c", context, "-t", "2", "--json"]), limit));
    let exact = under(limit, "2000");
    assert_eq!((&exact["fits"], exact["machine"]["address_space_limit_bytes"].as_u64()), (&true.into(), Some(limit)));
    let largest = bytes(&exact, "max_ctx");
    assert!((2000..2100).contains(&largest), "{largest}");
    assert_eq!(under(limit, &largest.to_string())["fits"], true);
    assert_eq!(under(limit, &(largest + 1).to_string())["fits"], false);
}

/// Runs to the last token of the context under an address space limit of exactly the plan, with the peak of its own
/// memory within 1 MiB of the plan; is refused with 1 MiB less.
fn obeys(model: &str, prompt: &str, flags: &[&str]) {
    let said = plan(model, flags);
    let line = [&["run", "-m", model, "-p", prompt, "--temp", "0", "--ignore-eos"], flags].concat();
    let verbose = [&line[..], &["-v"]].concat();
    let limit = bytes(&said, "address_space_bytes").next_multiple_of(4096);
    let out = run(limited(trill(&verbose), limit), "");
    let text = errors(&out);
    assert!(out.status.success() && text.contains("tokens is full"), "{flags:?}: {text}");
    assert!(text.contains("allocs since load: 0\n"), "{flags:?}: {text}");
    let (peak, own) = (told(&out, "peak memory beyond files"), bytes(&said, "own_bytes"));
    println!("{flags:?}: {peak} bytes, plan {own}");
    assert!(peak.abs_diff(own) <= MIB, "{flags:?}: {peak} bytes, plan {own}");
    let out = run(limited(trill(&line), limit - MIB), "");
    let text = errors(&out);
    assert_eq!(out.status.code(), Some(75), "{flags:?}: {text}");
    assert!(out.stdout.is_empty() && text.lines().count() == 1, "{flags:?}: {text}");
    let largest = text.trim().rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
    assert!(largest.is_some_and(|n| n > 0), "{text}");
}

#[test]
fn a_run_takes_what_the_plan_says() {
    let model = stories();
    for flags in [
        &["-c", "384", "-t", "1"][..],
        &["-c", "384", "-t", "2", "--cache-type", "q8"],
        &["-c", "384", "-t", "2", "--cache-type", "q4"],
        &["-c", "384", "-t", "4", "--cache-type-k", "q2", "--cache-type-v", "f16"],
        &["-c", "300", "-t", "2", "--no-mmap"],
    ] {
        obeys(&model, "Once", flags);
    }
}

#[test]
fn a_run_of_smollm2_takes_what_the_plan_says() {
    let Some(model) = smollm2() else { return };
    let model = model.to_str().unwrap();
    let prompt = "The sea is wide and deep and blue, and ".repeat(40);
    for flags in [&["-c", "512", "-t", "2"][..], &["-c", "512", "-t", "2", "--cache-type", "q2", "--no-mmap"]] {
        obeys(model, &prompt, flags);
    }
}

#[test]
fn the_start_tells_the_plan_where_it_is_asked_for() {
    let model = stories();
    for command in [&["run", "-p", "Once", "-n", "2"][..], &["bench", "-p", "4", "-n", "1", "-r", "1"]] {
        let line = |more: &[&'static str]| [command, &["-m", &model], more].concat();
        let verbose = run(trill(&line(&["-v"])), "");
        assert!(errors(&verbose).contains("weights (mapped)"), "{}", errors(&verbose));
        // Without a terminal standard error stays silent.
        assert_eq!(errors(&run(trill(&line(&[])), "")), "");
    }
}

#[test]
fn the_plan_is_quick() {
    let Some(model) = smollm2() else { return };
    let model = model.to_str().unwrap();
    let took = |_| {
        let start = Instant::now();
        answer(trill(&["plan", model]), "");
        start.elapsed()
    };
    // A busy machine may need some tries.
    let fast = (0..10).map(took).find(|t| *t < Duration::from_millis(100)).expect("under 100 ms in one of ten tries");
    println!("a plan after {fast:?}");
}
