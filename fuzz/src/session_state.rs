//! A saved state with any rows and any claims put into a session: it is refused before anything is changed, or what was
//! given comes out again, and where its numbers are finite the next tokens are the same bits at every kernel level, with
//! tokens taken back or forgotten too.

use crate::common::tiny_model::{VOCAB, one_layer};
use crate::memory::Memory;
use crate::{Choices, KERNELS, Noise, bits};
use std::ops::ControlFlow;
use std::sync::LazyLock;
use trill::gguf::Gguf;
use trill::kernels::Kernels;
use trill::kv_cache::{KvPart, KvType};
use trill::mem::Carver;
use trill::model::Model;
use trill::parallel::Serial;
use trill::session::{Session, SessionConfig};

const CONTEXT: usize = 300;

static MODELS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| ["llama", "qwen3"].map(|arch| one_layer(arch, |file| file)));

#[derive(Debug)]
struct Claim {
    types: [KvType; 2],
    len: usize,
    kept_from: [usize; 2],
    exact_from: [usize; 2],
    token: u32,
    forget: [usize; 2],
    truncate: usize,
    seed: u64,
    finite: bool,
}

pub fn run(input: &[u8]) {
    let mut c = Choices::new(input);
    let model = &MODELS[c.below(2)];
    let claim = Claim {
        types: [c.of(&KvType::ALL), c.of(&KvType::ALL)],
        len: c.below(CONTEXT + 20),
        kept_from: [c.below(CONTEXT + 50), c.below(CONTEXT + 50)],
        exact_from: if c.byte() % 2 == 0 { [0; 2] } else { [c.below(CONTEXT + 50), c.below(CONTEXT + 50)] },
        token: c.word() % (VOCAB as u32 + 2),
        forget: [c.below(CONTEXT), c.below(CONTEXT)],
        truncate: c.below(CONTEXT),
        seed: u64::from(c.word()),
        finite: c.byte() % 4 > 0,
    };
    let rows = c.rest();
    let want = outcome(model, &claim, rows, KERNELS.last().expect("scalar"));
    for kernels in KERNELS.iter() {
        if !claim.finite {
            // What comes of a NaN may depend on the level, but must come.
            let _ = outcome(model, &claim, rows, kernels);
            continue;
        }
        assert_eq!(outcome(model, &claim, rows, kernels), want, "{}: {claim:?}", kernels.name());
    }
}

/// The logits' bits after the state, after a gap was forgotten, and after tokens were taken back; or the error.
fn outcome(bytes: &[u8], claim: &Claim, rows: &[u8], kernels: &Kernels) -> Result<Vec<Vec<u32>>, String> {
    let (mut index, mut memory) = (Memory::default(), Memory::default());
    let need = Gguf::index_bytes(bytes).expect("a sound file");
    let gguf = Gguf::parse(bytes, &mut index.carver(need)).expect("a sound file");
    let [cache_k, cache_v] = claim.types;
    let config = SessionConfig { context: CONTEXT, batch: 16, threads: 1, logit_rows: 1, cache_k, cache_v };
    let mut measure = Carver::measure();
    let measured = Model::load(&gguf, &mut measure).expect("a sound model");
    let plan = Session::plan(&measured, config).expect("a plan");
    let mut carver = memory.carver(measure.used() + plan.total());
    let model = Model::load(&gguf, &mut carver).expect("a sound model");
    let mut session = Session::new(&model, *kernels, config, &mut carver).expect("a session");
    let tokens = vec![claim.token; claim.len];
    let mut given: Vec<(KvPart, usize, usize, Vec<u8>)> = vec![];
    let mut noise = Noise(claim.seed);
    let mut at = 0;
    let imported = session.import(&tokens, claim.kept_from, claim.exact_from, &mut |part, row, positions, out| {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = rows.get(at).copied().unwrap_or_else(|| noise.byte());
            at += 1;
            // Keeps half floats, and scales in f32, below 2.
            if claim.finite && i % 2 == 1 {
                *byte &= 0xbf;
            }
        }
        given.push((part, row, positions.start, out.to_vec()));
    });
    let left = match imported {
        Ok(left) => left,
        Err(error) => {
            assert!(given.is_empty() && session.position() == 0);
            assert!(claim.len > CONTEXT || claim.token as usize >= VOCAB);
            return Err(error.to_string());
        }
    };
    assert!(left <= claim.len && (session.position(), session.unchanged()) == (left, left));
    // What was not enough to go on from is as if it had been forgotten.
    for part in KvPart::ALL.into_iter().filter(|_| left == claim.len) {
        let mut wanted: Vec<_> = given.iter().filter(|g| g.0 == part).collect();
        wanted.sort_by_key(|g| (g.1, g.2));
        let held = session.held(part);
        assert!(held.start <= held.end && held.end <= claim.len);
        let mut out = vec![];
        session.export(part, held, &mut |bytes| out.extend_from_slice(bytes));
        assert!(out == wanted.iter().flat_map(|g| g.3.clone()).collect::<Vec<u8>>(), "{part:?}: {claim:?}");
    }
    let mut all = vec![];
    let mut next = |session: &mut Session<'_, '_>| match session.prefill(&Serial, &[3, 5], &mut go_on) {
        Ok(logits) => all.push(bits(logits)),
        Err(error) => all.push(vec![u32::from(matches!(error, trill::Error::ContextFull { .. }))]),
    };
    next(&mut session);
    session.forget(claim.forget[0], claim.forget[1]);
    next(&mut session);
    let left = session.truncate(claim.truncate);
    assert!(left <= claim.truncate && session.position() == left);
    next(&mut session);
    Ok(all)
}

fn go_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
