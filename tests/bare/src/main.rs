//! Proves what the core promises: no std, no allocator, no C library. If anything in it needed one of them,
//! this program would not link ("duplicate lang item", "no global memory allocator found", "undefined symbol").
//! It starts at `_start`, reads a real model that lies in its own file, computes a few tokens in a static
//! block of memory and compares them with what `tests/oracle` computes.
//!
//! Linux on x86-64 and aarch64, for the two system calls that print and exit; the core knows of neither.
#![no_std]
#![no_main]

mod machine;

use core::ops::ControlFlow;
use machine::{exit, print};
use trill::cpu::CpuFeatures;
use trill::gguf::Gguf;
use trill::kernels;
use trill::kv_cache::KvType;
use trill::mem::{Arena, Carver};
use trill::model::Model;
use trill::parallel::Serial;
use trill::session::{Session, SessionConfig};

static MODEL: &[u8] = include_bytes!("../../data/stories-bitnet-I2_S.gguf");
/// "Once upon a time", and how the model goes on.
const PROMPT: &[u32] = &[2047, 432, 445, 258, 402];
const EXPECTED: [u32; 8] = [44, 403, 282, 258, 392, 468, 426, 407];

static MEMORY: Arena<{ 8 << 20 }> = Arena::new();

fn generate(mut carver: Carver<'_>) -> trill::Result<[u32; 8]> {
    let gguf = Gguf::parse(MODEL, &mut carver)?;
    let model = Model::load(&gguf, &mut carver)?;
    let kernels = kernels::select(&CpuFeatures::compiled(), None)?;
    let config =
        SessionConfig { context: 64, batch: 16, threads: 1, logit_rows: 1, cache_k: KvType::F16, cache_v: KvType::F16 };
    let mut session = Session::new(&model, kernels, config, &mut carver)?;
    let mut out = [0; 8];
    let mut next = greedy(&mut session, PROMPT)?;
    for slot in &mut out {
        *slot = next;
        next = greedy(&mut session, &[next])?;
    }
    Ok(out)
}

fn greedy(session: &mut Session<'_, '_>, tokens: &[u32]) -> trill::Result<u32> {
    let logits = session.prefill(&Serial, tokens, &mut |_| ControlFlow::Continue(()))?;
    let mut best = 0;
    for (i, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = i;
        }
    }
    Ok(best as u32)
}

fn start() -> ! {
    match MEMORY.claim().map(generate) {
        Some(Ok(tokens)) if tokens == EXPECTED => {
            print("bare core: 8 tokens, as expected\n");
            exit(0)
        }
        Some(Ok(_)) => print("bare core: other tokens than the oracle's\n"),
        Some(Err(_)) => print("bare core: an error\n"),
        None => print("bare core: started twice\n"),
    }
    exit(1)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    print("bare core: panic\n");
    exit(101)
}
