//! `trill quantize`: what it writes is what it says, and whatever goes wrong leaves the files as they were.

use crate::files::{Folder, refused, stories, values, with_file};
use crate::run::{json, run, trill};
use std::path::Path;
use std::process::Command;
use trill::quant::QuantType;

#[test]
fn ternary_weights_survive_every_ternary_type() {
    let folder = Folder::new("quantize-ternary");
    for (ty, group, wanted) in [
        ("TQ1_0", None, QuantType::TQ1_0),
        ("tq2_0", None, QuantType::TQ2_0),
        ("Q2_0", None, QuantType::Q2_0),
        ("Q2_0", Some("128"), QuantType::Q2_0_G128),
        ("TQ1_0", Some("128"), QuantType::PTQ1_0),
        ("F16", None, QuantType::F16),
        ("F32", None, QuantType::F32),
    ] {
        let (there, back) = (folder.file("there.gguf"), folder.file("back.gguf"));
        let input = stories();
        let mut arguments = vec!["quantize", &input, &there, ty, "--json", "--force"];
        arguments.extend(group.iter().flat_map(|g| ["--group-size", g]));
        let said = json(trill(&arguments));
        assert_eq!(said["bytes_out"], std::fs::metadata(&there).unwrap().len());
        json(trill(&["quantize", &there, &back, "I2_S", "--json", "--force"]));
        with_file(&input, |old| {
            with_file(&there, |new| {
                with_file(&back, |again| {
                    assert_eq!(old.tensors().len(), new.tensors().len());
                    for (a, b) in old.tensors().iter().zip(new.tensors()) {
                        assert_eq!((a.name, a.dims), (b.name, b.dims));
                        if a.ty == QuantType::I2_S {
                            assert_eq!(b.ty, wanted);
                            assert!(values(a) == values(b), "{ty} {}: the scales fit every type here", a.name);
                            let c = again.tensor(a.name).unwrap();
                            let told = a.data.len() - 28; // the rest of the tail says nothing
                            assert!(c.ty == QuantType::I2_S && c.data[..told] == a.data[..told], "{ty} {}", a.name);
                        } else if a.n_dims == 1 {
                            assert!(a.ty == b.ty && a.data == b.data);
                        }
                    }
                });
            });
        });
    }
}

#[test]
fn metadata_stays_and_the_file_type_is_true() {
    let folder = Folder::new("quantize-metadata");
    let out = folder.file("out.gguf");
    json(trill(&["quantize", &stories(), &out, "TQ2_0", "--json", "--token-embedding-type", "Q8_0"]));
    with_file(&stories(), |old| {
        with_file(&out, |new| {
            assert_eq!(new.u32("general.file_type"), Ok(Some(37)));
            assert_eq!(new.u32("general.quantization_version"), Ok(Some(2)));
            assert_eq!(new.tensor("token_embd.weight").unwrap().ty, QuantType::Q8_0);
            for entry in old.entries().iter().filter(|e| e.key != "general.file_type") {
                assert_eq!(format!("{:?}", Some(entry.value)), format!("{:?}", new.value(entry.key)), "{}", entry.key);
            }
        });
    });
}

#[test]
fn measured_errors_are_those_of_the_file() {
    let folder = Folder::new("quantize-errors");
    let (f32s, out) = (folder.file("f32.gguf"), folder.file("out.gguf"));
    json(trill(&["quantize", &stories(), &f32s, "F32", "--json"]));
    for ty in [
        "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "STQ1_0", "Q1_0", "B1", "B1_64",
    ] {
        let said = json(trill(&["quantize", &f32s, &out, ty, "--json", "--pure", "--force", "-t", "2"]));
        with_file(&f32s, |old| {
            with_file(&out, |new| {
                for told in said["tensors"].as_array().unwrap().iter().filter(|t| !t["rms_error"].is_null()) {
                    let name = told["name"].as_str().unwrap();
                    let (a, b) = (values(old.tensor(name).unwrap()), values(new.tensor(name).unwrap()));
                    let square = |v: f64| v * v;
                    let error: f64 = a.iter().zip(&b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
                    let energy: f64 = a.iter().map(|a| square(f64::from(*a))).sum();
                    let (want, got) = ((error / energy).sqrt(), told["rms_error"].as_f64().unwrap());
                    assert!((want - got).abs() <= 1e-6 * want, "{ty} {name}: {want} {got}");
                    assert_eq!(new.tensor(name).unwrap().ty.info().name, ty);
                }
            });
        });
    }
}

/// W1A1 as a user has it: signs of a seed are the same signs on every level and thread, in any batch.
#[test]
fn random_signs_of_a_seed() {
    let folder = Folder::new("quantize-signs");
    let model = folder.file("b1.gguf");
    for ty in ["B1", "B1_64"] {
        json(trill(&["quantize", &stories(), &model, ty, "--force", "--json"]));
        let logits = |more: &[&str], scalar: bool| {
            let tokens = ["logits", "-m", &model, "--tokens", "1,50,300,7,50,300,7,900", "--all", "--json"];
            let mut command = trill(&[&tokens[..], more].concat());
            if scalar {
                command.env("TRILL_KERNELS", "scalar");
            }
            json(command)["logits"].clone()
        };
        let seeded = ["--stochastic-signs", "7"];
        let random = logits(&seeded, false);
        assert_eq!(random, logits(&[&seeded[..], &["-t", "2", "-b", "3"]].concat(), false), "{ty}");
        assert_eq!(random, logits(&[&seeded[..], &["-t", "1"]].concat(), true), "{ty}");
        let plain = logits(&[], false);
        assert_eq!(plain, logits(&[], true), "{ty}");
        assert!(random != plain && random != logits(&["--stochastic-signs", "8"], false), "{ty}");
    }
}

#[test]
fn wrong_requests_are_refused_and_leave_nothing() {
    let folder = Folder::new("quantize-refused");
    let (model, out) = (folder.file("in.gguf"), folder.file("out.gguf"));
    std::fs::copy(stories(), &model).unwrap();
    let before = std::fs::read(&model).unwrap();
    let (hard, soft) = (folder.file("hard.gguf"), folder.file("soft.gguf"));
    std::fs::hard_link(&model, &hard).unwrap();
    std::os::unix::fs::symlink(&model, &soft).unwrap();
    let dotted = folder.file("./in.gguf");
    for same in [&model, &hard, &soft, &dotted] {
        let (code, message) = refused(&["quantize", &model, same, "Q8_0"]);
        assert!(code == 64 && message.contains("same file"), "{message}");
    }
    let missing = folder.file("none/out.gguf");
    let absent = folder.file("absent.gguf");
    for (arguments, code, says) in [
        (&[&model, &out, "Q9_9"][..], 64, "the types are F32"),
        (&[&model, &out, "I2_S_ARM"], 64, "no type"),
        (&[&model, &out, "Q4_0", "--group-size", "128"], 64, "no form with 128"),
        (&[&model, &out, "Q4_0", "--group-size", "0"], 64, "--group-size 0"),
        (&[&model, &out, "Q4_0", "--output-tensor-type", "x"], 64, "no type x"),
        (&[&model, &out], 64, "IN, OUT and TYPE"),
        (&[&model, &out, "Q4_0", "more"], 64, "unexpected argument more"),
        (&[&absent, &out, "Q4_0"], 66, "no such file"),
        (&[&model, &missing, "Q4_0"], 73, "no such file"),
        (&[&model, folder.0.to_str().unwrap(), "Q4_0"], 73, "a folder, not a regular file"),
        (&[&model, &out, "I2_S", "--pure"], 65, "token_embd.weight: the weights are not what I2_S can hold"),
        (&[&model, &out, "Q1_0"], 65, "% (rms)"),
        (&[&model, &out, "T3R", "--pure"], 65, "token_embd.weight: the weights are not what T3R can hold"),
    ] {
        let (got, message) = refused(&[&["quantize"], arguments].concat());
        assert!(got == code && message.contains(says), "{arguments:?}: {got} {message}");
    }
    assert_eq!(folder.names(), ["hard.gguf", "in.gguf", "soft.gguf"]);
    assert!(std::fs::read(&model).unwrap() == before);
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let folder = Folder::new("quantize-finite");
    let (sound, bad, out) = (folder.file("sound.gguf"), folder.file("bad.gguf"), folder.file("out.gguf"));
    json(trill(&["quantize", &stories(), &sound, "F32", "--json"]));
    let name = "blk.3.ffn_up.weight";
    let (at, cols) = with_file(&sound, |f| {
        let t = f.tensor(name).unwrap();
        (t.offset as usize, t.cols())
    });
    for (value, says) in [(f32::NAN, "row 2"), (f32::INFINITY, "row 2"), (3e38, "too large for Q4_0")] {
        let mut bytes = std::fs::read(&sound).unwrap();
        bytes[at + (2 * cols + 5) * 4..][..4].copy_from_slice(&f32::to_le_bytes(value));
        std::fs::write(&bad, bytes).unwrap();
        let (code, message) = refused(&["quantize", &bad, &out, "Q4_0"]);
        assert!(code == 65 && message.contains(name) && message.contains(says), "{message}");
    }
    assert_eq!(folder.names(), ["bad.gguf", "sound.gguf"]);
}

/// Runs quantize under a limit on the size of files that it may write, in blocks of 512 bytes.
fn limited(input: &str, out: &str, blocks: u32) -> std::process::Output {
    let script = format!("ulimit -f {blocks}; exec \"$0\" quantize \"$1\" \"$2\" F32 --force");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_trill"), input, out]);
    run(command, "")
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = Folder::new("quantize-full");
    let out = folder.file("out.gguf");
    std::fs::write(&out, "old").unwrap();
    for blocks in [0, 1, 100, 1000, 30_000] {
        let ended = limited(&stories(), &out, blocks);
        let message = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(74), "{blocks}: {message}");
        assert!(message.contains("out.gguf: file too large"), "{message}");
        assert_eq!((folder.names(), std::fs::read(&out).unwrap()), (vec!["out.gguf".to_owned()], b"old".to_vec()));
    }
    assert!(limited(&stories(), &out, 60_000).status.success());
    with_file(&out, |f| assert_eq!(f.tensor("token_embd.weight").unwrap().ty, QuantType::F32));
}

#[test]
fn killed_at_any_moment_the_file_is_the_old_or_the_new_one() {
    let folder = Folder::new("quantize-killed");
    let (whole, out) = (folder.file("whole.gguf"), folder.file("out.gguf"));
    json(trill(&["quantize", &stories(), &whole, "F32", "--json"]));
    let new = std::fs::read(&whole).unwrap();
    let mut finished = 0;
    for i in 0..40u64 {
        std::fs::write(&out, "old").unwrap();
        let mut child = trill(&["quantize", &stories(), &out, "F32", "-q", "--force"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(i * 4));
        let _ = child.kill();
        child.wait().unwrap();
        let now = std::fs::read(&out).unwrap();
        assert!(now == b"old" || now == new, "killed after {} ms", i * 4);
        finished += usize::from(now == new);
    }
    assert!(finished < 40, "no run was killed early");
    // Where the file system has files without names, a killed run leaves nothing; else names that are in nobody's way.
    json(trill(&["quantize", &stories(), &out, "F32", "--json", "--force"]));
    let names = folder.names();
    assert!(
        names.iter().all(|n| n.starts_with(".trill-") || ["out.gguf", "whole.gguf"].contains(&n.as_str())),
        "{names:?}"
    );
}

#[test]
fn llama_quantizes_types_for_smollm2() {
    let Some(model) = crate::run::smollm2() else { return };
    let folder = Folder::new("quantize-smollm2");
    let out = folder.file("out.gguf");
    let said = json(trill(&["quantize", model.to_str().unwrap(), &out, "Q4_K_M", "--json"]));
    let count = |ty: &str| said["tensors"].as_array().unwrap().iter().filter(|t| t["to"] == ty).count();
    // As llama-quantize has it (llama.cpp 0.5.0-dev), since 576 columns are no multiple of 256.
    let counts = ["Q5_0", "Q8_0", "Q4_K", "Q6_K", "F32"].map(count);
    assert_eq!(counts, [166, 15, 16, 14, 61], "{}", Path::new(&out).display());
}

#[test]
fn damaged_files_are_refused_or_written() {
    let folder = Folder::new("quantize-damaged");
    let (damaged, out) = (folder.file("damaged.gguf"), folder.file("out.gguf"));
    let sound = std::fs::read(stories()).unwrap();
    let metadata = with_file(&stories(), |f| f.data_offset() as usize);
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for i in 0..100 {
        let mut bytes = sound.clone();
        // Half of them in the tensor records, which are the last part of the metadata.
        let from = if i % 2 == 0 { 0 } else { metadata - 4000 };
        for _ in 0..1 + random() % 3 {
            bytes[from + random() % (metadata - from)] = random() as u8;
        }
        std::fs::write(&damaged, bytes).unwrap();
        let ended = run(trill(&["quantize", &damaged, &out, "Q4_0"]), "");
        let message = String::from_utf8_lossy(&ended.stderr);
        assert!(matches!(ended.status.code(), Some(0 | 65)), "{:?} {message}", ended.status);
        if ended.status.success() {
            with_file(&out, |f| assert_eq!(f.tensors().len(), 68));
            std::fs::remove_file(&out).unwrap();
        }
        assert_eq!(folder.names(), ["damaged.gguf"]);
    }
}
