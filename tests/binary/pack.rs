//! `trill pack`: packed models answer as the originals do, and whatever goes wrong leaves the files as they were.

use crate::files::{Folder, refused, stories, values, with_file};
use crate::run::{answer, json, trill};
use serde_json::Value;
use trill::gguf::{Gguf, TensorInfo};
use trill::quant::{QuantType, s2_residual};

const SKETCH: &str = "trill.head_sketch.weight";

/// Packs `from` and gives what was said.
fn pack(from: &str, to: &str, flags: &[&str]) -> Value {
    json(trill(&[&["pack", from, to, "--json", "--force"], flags].concat()))
}

/// Logits after each of some tokens, as text that holds every bit.
fn logits(model: &str) -> String {
    answer(trill(&["logits", "-m", model, "--tokens", "1,300,17,1999,42,42,640,5,77,1024,1500,3", "--all"]), "")
}

/// What the model tells, greedily.
fn story(model: &str) -> String {
    answer(trill(&["run", "-m", model, "-p", "Once upon a time", "-n", "120", "--temp", "0", "-q"]), "")
}

fn is_layer<'a>(t: &&'a TensorInfo<'a>) -> bool {
    t.name.starts_with("blk.") && t.n_dims == 2
}

/// The type that a layer's matrix is packed to, where others become `ty`: some are skipped in parts.
fn layout(name: &str, ty: QuantType) -> QuantType {
    match name {
        _ if name.contains("ffn_up") => QuantType::T3R,
        _ if name.contains("ffn_down") => QuantType::T3C,
        _ => ty,
    }
}

/// The trained model with its ternary matrices in another type and everything else as it was.
fn ternary_as(folder: &Folder, ty: &str) -> String {
    let out = folder.file(&format!("{ty}.gguf"));
    json(trill(&["quantize", &stories(), &out, ty, "--json", "--force", "--token-embedding-type", "F16"]));
    out
}

#[test]
fn packed_layers_give_the_same_bits() {
    let folder = Folder::new("pack-bits");
    let (want, told) = (logits(&stories()), story(&stories()));
    assert!(told.len() > 200);
    for (machine, ty) in [("phone", QuantType::T2), ("pi5", QuantType::T3), ("x86", QuantType::T3)] {
        let out = folder.file("out.gguf");
        let said = pack(&stories(), &out, &["--for", machine, "--head", "keep"]);
        assert_eq!(said["bytes_out"], std::fs::metadata(&out).unwrap().len());
        assert_eq!(said["cost"]["packed"]["identical"], true);
        assert!(logits(&out) == want && story(&out) == told, "{machine}");
        with_file(&stories(), |old| {
            with_file(&out, |new| {
                assert_eq!(new.alignment(), 64);
                for a in old.tensors() {
                    let b = new.tensor(a.name).unwrap();
                    assert!(b.offset.is_multiple_of(64) && a.dims == b.dims, "{}", a.name);
                    if is_layer(&a) {
                        assert!(b.ty == layout(a.name, ty) && values(a) == values(b), "{}", a.name);
                    } else {
                        assert!(a.ty == b.ty && a.data == b.data, "{}", a.name);
                    }
                }
                assert_eq!(new.tensors().len(), old.tensors().len() + 1);
            });
        });
    }
}

/// Neurons that are always zero are left out of the file, and nothing else changes, in batches or token by token.
#[test]
fn dead_neurons_are_left_out() {
    let folder = Folder::new("pack-dead");
    let (old, out) = (folder.file("old.gguf"), folder.file("out.gguf"));
    let mut bytes = std::fs::read(stories()).unwrap();
    let n_ff = with_file(&stories(), |file| {
        let mut zero = |name: &str, rows: std::ops::Range<usize>| {
            let tensor = file.tensor(name).unwrap();
            let (start, row) = (tensor.offset as usize, tensor.ty.row_bytes(tensor.cols()).unwrap());
            // I2_S says 0 with the bits 01.
            bytes[start + rows.start * row..start + rows.end * row].fill(0x55);
        };
        zero("blk.0.ffn_gate.weight", 3..140);
        zero("blk.0.ffn_up.weight", 100..301);
        zero("blk.4.ffn_up.weight", 1..65);
        zero("blk.5.ffn_up.weight", 1..64);
        file.tensor("blk.0.ffn_gate.weight").unwrap().rows()
    });
    std::fs::write(&old, bytes).unwrap();
    let said = pack(&old, &out, &["--for", "generic", "--head", "keep"]);
    assert_eq!(said["cost"]["packed"]["identical"], true);
    assert!(logits(&out) == logits(&old) && story(&out) == story(&old));
    with_file(&out, |new| {
        let width = |name: &str| new.tensor(name).map(|t| (t.cols(), t.rows()));
        let kept = (n_ff - 298usize).next_multiple_of(64);
        let cols = width("blk.1.ffn_gate.weight").unwrap().0;
        assert_eq!(width("blk.0.ffn_gate.weight"), Some((cols, kept)));
        assert_eq!(width("blk.0.ffn_up.weight"), Some((cols, kept)));
        assert_eq!(width("blk.0.ffn_down.weight"), Some((kept, cols)));
        assert_eq!(width("blk.0.ffn_kept.weight"), Some((kept, 1)));
        assert_eq!(width("blk.4.ffn_kept.weight"), Some((n_ff - 64, 1)));
        assert_eq!(width("blk.5.ffn_kept.weight"), None, "63 are not worth a block");
        assert_eq!(width("blk.0.ffn_sub_norm.weight"), Some((n_ff, 1)));
    });
    // Packed again, it is the same still.
    let again = folder.file("again.gguf");
    pack(&out, &again, &["--for", "phone", "--head", "keep", "--ffn-skip", "off"]);
    assert!(logits(&again) == logits(&old));
}

/// Where the weights come from does not matter: activations are those of BitNet once the matrices are packed.
#[test]
fn block_types_with_one_scale_become_what_bitnet_is() {
    let folder = Folder::new("pack-blocks");
    let want = logits(&stories());
    for ty in ["TQ1_0", "TQ2_0", "Q2_0"] {
        let (from, out) = (ternary_as(&folder, ty), folder.file("out.gguf"));
        assert!(logits(&from) != want, "{ty} has a scale for each block of activations");
        let said = pack(&from, &out, &["--for", "generic", "--head", "keep"]);
        let layers = said["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|t| matches!(t["to"].as_str(), Some("T3" | "T3R" | "T3C")));
        assert!(layers.clone().count() == 42 && layers.clone().all(|t| t["same_results"] == false && t["from"] == ty));
        assert!(logits(&out) == want, "{ty}");
        assert_eq!(said["cost"]["packed"]["identical"], false);
        let mut aloud = trill(&["pack", &from, &out, "--for", "generic", "--force"]);
        let words = String::from_utf8(aloud.output().unwrap().stderr).unwrap();
        assert!(words.contains("42 matrices now take activations as int8 with one scale a row"), "{words}");
    }
}

#[test]
fn several_scales_stay_as_they_are() {
    let folder = Folder::new("pack-scales");
    let (floats, mixed, out) = (ternary_as(&folder, "F32"), folder.file("mixed.gguf"), folder.file("out.gguf"));
    let odd = "blk.2.ffn_up.weight";
    let mut bytes = std::fs::read(&floats).unwrap();
    let (at, len) = with_file(&floats, |f| f.tensor(odd).map(|t| (t.offset as usize, t.data.len())).unwrap());
    for word in bytes[at..at + len / 2].as_chunks_mut::<4>().0 {
        *word = (f32::from_le_bytes(*word) * 2.0).to_le_bytes();
    }
    std::fs::write(&floats, bytes).unwrap();
    json(trill(&["quantize", &floats, &mixed, "TQ2_0", "--json", "--token-embedding-type", "F16"]));
    let said = pack(&mixed, &out, &["--for", "generic"]);
    let kept: Vec<_> = said["tensors"].as_array().unwrap().iter().filter(|t| !t["kept_because"].is_null()).collect();
    assert!(kept.len() == 1 && kept[0]["name"] == odd, "{kept:?}");
    with_file(&mixed, |old| {
        with_file(&out, |new| {
            let (a, b) = (old.tensor(odd).unwrap(), new.tensor(odd).unwrap());
            assert!(b.ty == QuantType::TQ2_0 && a.data == b.data);
        });
    });
}

/// Every matrix with two scales, so that there is no layout with one.
#[test]
fn rows_with_a_scale_for_each_block_are_interleaved_and_give_the_same_bits() {
    let folder = Folder::new("pack-interleaved");
    let (floats, from, out) = (ternary_as(&folder, "F32"), folder.file("from.gguf"), folder.file("out.gguf"));
    let mut bytes = std::fs::read(&floats).unwrap();
    let halves: Vec<_> = with_file(&floats, |f| {
        f.tensors().iter().filter(is_layer).map(|t| (t.offset as usize, t.data.len() / 2)).collect()
    });
    for (at, len) in halves {
        for word in bytes[at..at + len].as_chunks_mut::<4>().0 {
            *word = (f32::from_le_bytes(*word) * 2.0).to_le_bytes();
        }
    }
    std::fs::write(&floats, bytes).unwrap();
    for (ty, to) in [("Q1_0", QuantType::Q1_0_R32), ("Q2_0", QuantType::Q2_0_R16), ("TQ2_0", QuantType::TQ2_0_R16)] {
        json(trill(&["quantize", &floats, &from, ty, "--json", "--force", "--token-embedding-type", "F16"]));
        let said = pack(&from, &out, &["--for", "pi5", "--head", "keep"]);
        assert_eq!(said["cost"]["packed"]["identical"], true, "{ty}");
        let done: Vec<_> = said["tensors"].as_array().unwrap().iter().filter(|t| t["to"] == to.info().name).collect();
        assert!(done.len() == 42 && done.iter().all(|t| t["same_results"] == true && t["from"] == ty), "{ty}");
        assert!(logits(&out) == logits(&from) && story(&out) == story(&from), "{ty}");
        with_file(&from, |old| {
            with_file(&out, |new| {
                for a in old.tensors().iter().filter(is_layer) {
                    let b = new.tensor(a.name).unwrap();
                    assert!(b.ty == to && values(a) == values(b), "{}", a.name);
                }
            });
        });
        // Elsewhere the rows stay as they are.
        pack(&from, &out, &["--for", "generic", "--head", "keep"]);
        with_file(&out, |new| assert!(new.tensors().iter().filter(is_layer).all(|t| t.ty.info().name == ty)));
    }
}

/// The head's row `row`, as a packed file has it, and the same row of the sketch with its residual norm.
fn sketched(file: &Gguf<'_>, row: usize) -> (Vec<f32>, Vec<f32>, f32) {
    let matrix = |name| file.tensor(name).unwrap().matrix().unwrap();
    let (head, sketch) = (matrix("token_embd.weight"), matrix(SKETCH));
    let (mut a, mut b) = (vec![0.0; head.cols()], vec![0.0; head.cols()]);
    head.decode_row(row, &mut a);
    sketch.decode_row(row, &mut b);
    let group = row - row % 4;
    (a, b, s2_residual(sketch.span(group..group + 1).data, row % 4))
}

#[test]
fn heads_are_what_was_asked_for_and_cost_what_is_said() {
    let folder = Folder::new("pack-heads");
    let out = folder.file("out.gguf");
    let mut costs = vec![];
    for (flags, ty) in [
        (&["--head", "keep"][..], QuantType::F16),
        (&[], QuantType::Q8R),
        (&["--head", "q6_k"], QuantType::Q6_K),
        (&["--head", "q4"], QuantType::Q4_K),
    ] {
        let said = pack(&stories(), &out, &[flags, &["--for", "generic"]].concat());
        let heads = said["cost"]["heads"].as_array().unwrap();
        assert_eq!(heads.len(), 4);
        let chosen = heads.iter().find(|h| h["chosen"] == true).unwrap();
        assert_eq!((&chosen["type"], &chosen["cost"]), (&Value::from(ty.info().name), &said["cost"]["packed"]));
        // Every run measures all choices, and they do not depend on the one taken.
        let measured: Vec<f64> = heads.iter().map(|h| h["cost"]["kl_divergence"].as_f64().unwrap()).collect();
        costs.push(measured);
        with_file(&out, |new| {
            let head = new.tensor("token_embd.weight").unwrap();
            assert_eq!(head.ty, ty);
            assert_eq!(said["bytes_per_token"]["after"]["head"], head.data.len());
            for row in [0, 1, 2, 3, 777, 2047] {
                let (head, sketch, residual) = sketched(&new, row);
                let square = |v: f32| f64::from(v) * f64::from(v);
                let error: f64 = head.iter().zip(&sketch).map(|(a, b)| square(a - b)).sum();
                let energy: f64 = head.iter().map(|a| square(*a)).sum();
                assert!(
                    f64::from(residual) >= error.sqrt() * 0.999_999 && f64::from(residual) <= error.sqrt() * 1.000_01
                );
                assert!(error > 0.0 && error < 0.2 * energy, "{}", error / energy);
            }
        });
        // The embedding is read from it, too.
        assert!(story(&out).contains("there was a little girl named Lily"), "{ty:?}");
    }
    assert!(costs.iter().all(|c| *c == costs[0]), "{costs:?}");
    let [keep, q8, q6, q4] = costs[0][..] else { panic!("four choices") };
    assert!(keep == 0.0 && q8 > 0.0 && q8 < 0.005 && q6 < 0.01 && q4 < 0.1 && q8 < q4, "{costs:?}");
}

#[test]
fn metadata_stays_and_provenance_is_added_once() {
    let folder = Folder::new("pack-metadata");
    let (once, twice) = (folder.file("once.gguf"), folder.file("twice.gguf"));
    let said = pack(&stories(), &once, &[]);
    assert!(said["target"].as_str().unwrap().starts_with("measured with "));
    let speeds = said["speeds"].as_array().unwrap();
    assert_eq!(
        speeds.iter().map(|s| s["cols"].as_u64().unwrap()).collect::<Vec<_>>(),
        [256],
        "down's 768 columns are T3C"
    );
    pack(&once, &twice, &["--for", "phone", "--no-sketch"]);
    let show = |f: &Gguf<'_>| -> Vec<(String, String)> {
        f.entries().iter().map(|e| (e.key.to_owned(), format!("{:?}", e.value))).collect()
    };
    let old = with_file(&stories(), |f| show(&f));
    with_file(&once, |new| {
        let now = show(&new);
        assert_eq!(now[..old.len()], old[..], "in the same order");
        let keys: Vec<&str> = now[old.len()..].iter().map(|e| e.0.as_str()).collect();
        let own = ["version", "writer", "source_sha256", "target", "head", "sketch"].map(|k| format!("trill.pack.{k}"));
        assert_eq!(keys, [&["general.alignment".to_owned()], &own[..]].concat());
        assert_eq!((new.u32("trill.pack.version"), new.str("trill.pack.head")), (Ok(Some(1)), Ok(Some("Q8R"))));
        assert_eq!(new.bool("trill.pack.sketch"), Ok(Some(true)));
    });
    with_file(&twice, |again| {
        assert_eq!(show(&again).len(), old.len() + 7);
        assert_eq!(
            (again.str("trill.pack.target"), again.bool("trill.pack.sketch")),
            (Ok(Some("phone")), Ok(Some(false)))
        );
        assert!(again.tensor(SKETCH).is_none());
        assert!(again.tensors().iter().filter(is_layer).all(|t| t.ty == layout(t.name, QuantType::T2)));
    });
    assert_eq!(logits(&once), logits(&twice));
}

#[test]
fn wrong_requests_are_refused_and_leave_nothing() {
    let folder = Folder::new("pack-refused");
    let (model, out) = (folder.file("in.gguf"), folder.file("out.gguf"));
    std::fs::copy(stories(), &model).unwrap();
    let (hard, soft) = (folder.file("hard.gguf"), folder.file("soft.gguf"));
    std::fs::hard_link(&model, &hard).unwrap();
    std::os::unix::fs::symlink(&model, &soft).unwrap();
    for same in [&model, &hard, &soft] {
        let (code, message) = refused(&["pack", &model, same]);
        assert!(code == 64 && message.contains("same file"), "{message}");
    }
    let (missing, absent, text) = (folder.file("none/out.gguf"), folder.file("absent.gguf"), folder.file("text"));
    std::fs::write(&text, "no model").unwrap();
    for (arguments, code, says) in [
        (&[model.as_str()][..], 64, "IN and OUT"),
        (&[&model, &out, "more"], 64, "unexpected argument more"),
        (&[&model, &out, "--head", "q5"], 64, "expected keep, q8, q6_k, q4"),
        (&[&model, &out, "--for", "abacus"], 64, "expected pi5, phone, x86, generic"),
        (&[&model, &out, "--pure"], 64, "does not know the flag --pure"),
        (&[&absent, &out], 66, "no such file"),
        (&[&text, &out], 65, "text"),
        (&[&model, &missing, "--for", "pi5", "-q"], 73, "no such file"),
        (&[&model, folder.0.to_str().unwrap(), "--for", "pi5", "-q"], 73, "a folder, not a regular file"),
    ] {
        let (got, message) = refused(&[&["pack"], arguments].concat());
        assert!(got == code && message.contains(says), "{arguments:?}: {got} {message}");
    }
    assert_eq!(folder.names(), ["hard.gguf", "in.gguf", "soft.gguf", "text"]);
}

#[test]
fn killed_at_any_moment_the_file_is_the_old_or_the_new_one() {
    let folder = Folder::new("pack-killed");
    let (whole, out) = (folder.file("whole.gguf"), folder.file("out.gguf"));
    let flags = ["--for", "generic", "-q"];
    let clock = std::time::Instant::now();
    pack(&stories(), &whole, &flags);
    let (all, new) = (clock.elapsed(), std::fs::read(&whole).unwrap());
    let mut finished = 0;
    for i in 0..20 {
        std::fs::write(&out, "old").unwrap();
        let mut child = trill(&[&["pack", &stories(), &out, "--force"], &flags[..]].concat())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(all * i / 20);
        let _ = child.kill();
        child.wait().unwrap();
        let now = std::fs::read(&out).unwrap();
        assert!(now == b"old" || now == new, "killed after {:?}", all * i / 20);
        finished += usize::from(now == new);
    }
    assert!(finished < 20, "no run was killed early");
    pack(&stories(), &out, &flags);
    assert!(std::fs::read(&out).unwrap() == new, "the same file again, byte for byte");
    let names = folder.names();
    assert!(
        names.iter().all(|n| n.starts_with(".trill-") || ["out.gguf", "whole.gguf"].contains(&n.as_str())),
        "{names:?}"
    );
}
