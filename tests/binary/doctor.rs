//! `trill doctor`, and guessing ahead: what must not change a text does not.

use crate::run::{in_repository, json, run, trill};
use std::fs;

fn model() -> String {
    in_repository("tests/data/stories-bitnet-I2_S.gguf").to_str().expect("a UTF-8 path").to_owned()
}

#[test]
fn a_sound_model_is_verified_and_another_layout_is_named() {
    let out = run(trill(&["doctor", "-m", &model()]), "");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.ends_with("verified\n") && said.contains("known text"), "{said}");
    let report = json(trill(&["doctor", "-m", &model(), "--json"]));
    assert_eq!(report["verdict"], "verified");
    // Read in the wrong layout its codes are as valid; what it says is not.
    let out = run(trill(&["doctor", "-m", &model(), "--i2s-layout", "arm64"]), "");
    assert_eq!(out.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--i2s-layout x86"), "{out:?}");
    // Without a model it describes the machine.
    let report = json(trill(&["doctor", "--json"]));
    assert!(report["machine"]["kernels"].is_string() && report.get("verdict").is_none());
}

#[test]
fn damaged_weights_are_refused_by_every_command() {
    let mut bytes = fs::read(model()).unwrap();
    let report = json(trill(&["inspect", &model(), "--weights", "--json"]));
    let tensor = report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "blk.0.ffn_down.weight").unwrap();
    // I2_S has no code 3. One row is enough: its first is always looked at.
    let at = usize::try_from(tensor["offset"].as_u64().unwrap()).unwrap();
    bytes[at..at + 64].fill(0xFF);
    let path = std::env::temp_dir().join(format!("trill-damaged-{}.gguf", std::process::id()));
    fs::write(&path, bytes).unwrap();
    let path_text = path.to_str().unwrap();
    for line in [vec!["run", "-m", path_text, "-p", "x", "-n", "1"], vec!["doctor", "-m", path_text]] {
        let out = run(trill(&line), "");
        assert_eq!(out.status.code(), Some(65), "{line:?}");
        let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
        assert!(said.contains("codes that no ternary weight has"), "{said}");
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn guessing_ahead_changes_no_text() {
    for (temperature, seed) in [("0", "1"), ("0.8", "2"), ("1.2", "3")] {
        for cache in ["f16", "q4"] {
            let text = |draft: &str, threads: &str| {
                let line = [
                    "run",
                    "-m",
                    &model(),
                    "-p",
                    "Once upon a time",
                    "-n",
                    "330",
                    "-c",
                    "384",
                    "--ignore-eos",
                    "--temp",
                    temperature,
                    "-s",
                    seed,
                    "--cache-type",
                    cache,
                    "-t",
                    threads,
                    "--draft",
                    draft,
                    "--json",
                ];
                json(trill(&line))["token_ids"].clone()
            };
            let plain = text("off", "1");
            assert_eq!(plain.as_array().map(Vec::len), Some(330));
            assert_eq!(plain, text("on", "1"), "temperature {temperature}, cache {cache}");
            assert_eq!(plain, text("on", "3"), "temperature {temperature}, cache {cache}");
        }
    }
}

#[cfg(feature = "built-in-model")]
#[test]
fn without_any_model_a_story_is_told() {
    let nowhere = std::env::temp_dir().join(format!("trill-nowhere-{}", std::process::id()));
    let mut command = trill(&[]);
    command.env("XDG_DATA_HOME", &nowhere);
    let out = run(command, "");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.starts_with("Once upon a time") && said.split_whitespace().count() > 30, "{said}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("-m FILE"));
}
