//! Bad GGUF files: every rule of the format broken on its own, files cut at every byte, every bit of the
//! metadata flipped, random damage. None may panic, and each hand-made one must be refused for its own reason
//! at its own place.

#[allow(dead_code)]
mod common;
mod session_memory;

use common::gguf_file::*;
use std::time::{Duration, Instant};
use trill::gguf::{Defect, Gguf, GgufError, I2sLayout, Value, ValueType};
use trill::mem::{Carver, MemError};
use trill::quant::QuantType;

/// A sound file with every kind of value and a few tensors.
fn tiny() -> GgufFile {
    GgufFile::default()
        .str("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .f32("llama.eps", 1e-5)
        .entry("t.bool", BOOL, [1])
        .entry("t.u8", U8, [200])
        .entry("t.i8", 1, [0x80])
        .entry("t.u16", 2, 40_000u16.to_le_bytes())
        .entry("t.i16", 3, (-2i16).to_le_bytes())
        .entry("t.i32", I32, (-3i32).to_le_bytes())
        .entry("t.u64", 10, u64::MAX.to_le_bytes())
        .entry("t.i64", 11, (-4i64).to_le_bytes())
        .entry("t.f64", 12, 0.5f64.to_le_bytes())
        .entry("t.tokens", ARRAY, strings(&["a", "", "ccc"]))
        .entry("t.bools", ARRAY, array(BOOL, 2, &[0, 1]))
        .entry("t.scores", ARRAY, array(F32, 2, &[0, 0, 128, 63, 0, 0, 0, 191]))
        .entry("t.types", ARRAY, array(I32, 2, &[1, 0, 0, 0, 255, 255, 255, 255]))
        .entry("t.none", ARRAY, array(STRING, 0, &[]))
        .tensor("norm", &[8], 0, vec![7; 32])
        .tensor("w", &[32, 3], 8, vec![1; 3 * 34])
        .tensor("four", &[4, 1, 2, 3], 1, vec![2; 48])
        .tensor("i2", &[128, 2], 36, vec![0; 64 + 32])
}

fn error_of(bytes: &[u8]) -> GgufError {
    with(bytes, |_| ()).expect_err("a refusal")
}

#[test]
fn a_sound_file_is_read() {
    for version in [2, 3] {
        let bytes = GgufFile { version, ..tiny() }.build();
        with(&bytes, |f| check_tiny(&f, version)).unwrap();
    }
}

/// All tensors are told, none has bytes; without all of the metadata that is said.
#[test]
fn the_start_of_a_file_tells_what_is_in_it() {
    let bytes = tiny().build();
    let data = with(&bytes, |f| f.data_offset() as usize).unwrap();
    for cut in 0..bytes.len() {
        let start = &bytes[..cut];
        let mut memory = common::memory::Memory::default();
        let mut index = memory.carver(Gguf::index_bytes(&bytes).unwrap());
        match Gguf::parse_start(start, bytes.len() as u64, I2sLayout::X86, &mut index) {
            Ok(f) => {
                assert!(cut + 31 >= data, "{cut} of {data} bytes were enough");
                let sizes = f.tensors().iter().map(|t| (t.name, t.bytes(), t.data.len()));
                assert!(sizes.eq([("norm", 32, 0), ("w", 102, 0), ("four", 48, 0), ("i2", 96, 0)]));
            }
            Err(trill::Error::Gguf(e)) => {
                assert!(cut < data && e.defect.is_short(), "{cut}: {e:?}");
            }
            Err(other) => panic!("{cut}: {other:?}"),
        }
    }
}

fn check_tiny(f: &Gguf<'_>, version: u32) {
    assert_eq!((f.version(), f.alignment(), f.entries().len(), f.tensors().len()), (version, 32, 17, 4));
    assert_eq!(f.str("general.architecture"), Ok(Some("llama")));
    assert_eq!((f.u32("llama.block_count"), f.u64("llama.block_count")), (Ok(Some(2)), Ok(Some(2))));
    assert_eq!((f.f32("llama.eps"), f.f32("t.f64")), (Ok(Some(1e-5)), Ok(Some(0.5))));
    assert_eq!((f.bool("t.bool"), f.bool("absent")), (Ok(Some(true)), Ok(None)));
    assert_eq!((f.u32("t.u8"), f.u32("t.u16"), f.u64("t.u64")), (Ok(Some(200)), Ok(Some(40_000)), Ok(Some(u64::MAX))));
    for (key, defect) in [
        ("t.u64", Defect::OutOfRange),
        ("t.i8", Defect::OutOfRange),
        ("t.i16", Defect::OutOfRange),
        ("t.i32", Defect::OutOfRange),
        ("t.i64", Defect::OutOfRange),
        ("t.f64", Defect::WrongType),
        ("t.bool", Defect::WrongType),
        ("t.tokens", Defect::WrongType),
        ("general.architecture", Defect::WrongType),
    ] {
        let offset = f.entries().iter().find(|e| e.key == key).unwrap().offset;
        assert_eq!(f.u32(key), Err(GgufError { defect, offset }), "{key}");
    }
    assert!(f.str("t.u8").is_err() && f.bool("t.u8").is_err() && f.f32("t.u8").is_err() && f.array("t.u8").is_err());
    check_arrays(f);
    check_tensors(f);
}

fn check_arrays(f: &Gguf<'_>) {
    let array = |key| f.array(key).unwrap().unwrap();
    let tokens = array("t.tokens");
    assert_eq!((tokens.ty(), tokens.len(), tokens.is_empty()), (ValueType::Str, 3, false));
    assert_eq!(tokens.strings().unwrap().collect::<Vec<_>>(), [&b"a"[..], b"", b"ccc"]);
    assert!(tokens.u32s().is_none() && tokens.f32s().is_none());
    assert_eq!(array("t.scores").f32s().unwrap().collect::<Vec<_>>(), [1.0, -0.5]);
    assert!(array("t.scores").i32s().is_none() && array("t.scores").strings().is_none());
    assert_eq!(array("t.types").i32s().unwrap().collect::<Vec<_>>(), [1, -1]);
    assert!(array("t.types").u32s().is_none(), "-1 is no u32");
    let none = array("t.none");
    assert!(none.is_empty() && none.u32s().is_none() && none.strings().unwrap().next().is_none());
}

fn check_tensors(f: &Gguf<'_>) {
    let norm = f.tensor("norm").unwrap();
    assert_eq!((norm.ty, norm.rows(), norm.cols(), norm.data), (QuantType::F32, 1, 8, &[7u8; 32][..]));
    assert_eq!(norm.offset, f.data_offset());
    let four = f.tensor("four").unwrap();
    assert_eq!((four.dims, four.n_dims, four.rows(), four.cols(), four.elements()), ([4, 1, 2, 3], 4, 6, 4, 24));
    let i2 = f.tensor("i2").unwrap().matrix().unwrap();
    assert_eq!((i2.ty(), i2.rows(), i2.cols(), i2.data().len()), (QuantType::I2_S, 2, 128, 64));
    assert!(f.tensor("").is_none() && f.tensor("norm2").is_none() && f.tensor("W").is_none());
}

/// Where entry `i` starts, and where tensor record `i` starts (`entries` first).
fn entry_at(f: &GgufFile, i: usize) -> u64 {
    24 + f.entries[..i].iter().map(|(k, _, v)| 12 + k.len() + v.len()).sum::<usize>() as u64
}

fn record_at(f: &GgufFile, i: usize) -> u64 {
    let size = |t: &Tensor| 8 + t.name.len() + 4 + 8 * t.dims.len() + 12;
    entry_at(f, f.entries.len()) + f.tensors[..i].iter().map(size).sum::<usize>() as u64
}

/// `tiny` plus one entry, which must be refused `plus` bytes after its start.
fn bad_entry(key: &[u8], ty: u32, value: &[u8], plus: u64, defect: Defect) -> (GgufFile, Defect, u64) {
    let f = tiny().entry(key, ty, value);
    let offset = entry_at(&f, f.entries.len() - 1) + plus;
    (f, defect, offset)
}

/// `tiny` with its last tensor changed, which must be refused `plus` bytes after its record's start.
fn bad_tensor(change: impl FnOnce(&mut Tensor), plus: u64, defect: Defect) -> (GgufFile, Defect, u64) {
    let mut f = tiny();
    change(f.tensors.last_mut().unwrap());
    let offset = record_at(&f, f.tensors.len() - 1) + plus;
    (f, defect, offset)
}

fn header_defects() -> Vec<(GgufFile, Defect, u64)> {
    let f = tiny();
    let left = f.build().len() as u64 - 24;
    let mut out = vec![
        (GgufFile { magic: *b"GGML", ..tiny() }, Defect::Magic, 0),
        (GgufFile { magic: *b"FUGG", ..tiny() }, Defect::Magic, 0),
        (GgufFile { magic: [0; 4], ..tiny() }, Defect::Magic, 0),
        (GgufFile { magic: *b"gguf", ..tiny() }, Defect::Magic, 0),
        (GgufFile { version: 3u32.swap_bytes(), ..tiny() }, Defect::ByteOrder, 4),
        (GgufFile { version: 0x10000, ..tiny() }, Defect::ByteOrder, 4),
    ];
    for got in [0, 1, 4, 0x10003, u32::MAX] {
        out.push((GgufFile { version: got, ..tiny() }, Defect::Version { got }, 4));
    }
    for got in [65_537, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        out.push((GgufFile { n_tensors: Some(got), ..tiny() }, Defect::TensorCount { got }, 8));
    }
    for got in [4097, 1 << 31, 1 << 32, 1 << 63, u64::MAX, u64::MAX / 14] {
        out.push((GgufFile { n_entries: Some(got), ..tiny() }, Defect::EntryCount { got }, 16));
    }
    // Within the limits but more than the rest of the file can hold.
    let need = 4096 * 14 + f.tensors.len() as u64 * 33;
    out.push((GgufFile { n_entries: Some(4096), ..tiny() }, Defect::Truncated { need, have: left }, 24));
    let need = f.entries.len() as u64 * 14 + 65_536 * 33;
    out.push((GgufFile { n_tensors: Some(65_536), ..tiny() }, Defect::Truncated { need, have: left }, 24));
    out
}

fn key_defects() -> Vec<(GgufFile, Defect, u64)> {
    let long = |len: u64, rest: usize| [&len.to_le_bytes()[..], &vec![b'k'; rest]].concat();
    let mut out = vec![
        bad_entry(b"", U8, &[0], 0, Defect::KeyEmpty),
        bad_entry(&[b'k'; 257], U8, &[0], 0, Defect::KeyLength { got: 257 }),
        bad_entry(b"a\0b", U8, &[0], 0, Defect::KeyNul),
        bad_entry(b"\0", U8, &[0], 0, Defect::KeyNul),
        bad_entry(b"\xff", U8, &[0], 0, Defect::KeyUtf8),
        bad_entry(b"caf\xc3", U8, &[0], 0, Defect::KeyUtf8),
        bad_entry(b"\xed\xa0\x80", U8, &[0], 0, Defect::KeyUtf8),
        bad_entry(b"general.architecture", U8, &[0], 0, Defect::KeyDuplicate),
        bad_entry(b"t.bool", BOOL, &[1], 0, Defect::KeyDuplicate),
    ];
    // A key whose length is not the truth: written where the next pair's key is.
    for got in [257, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 7] {
        let f = tiny();
        let mut raw = f.clone();
        // The pair's own 12 bytes of framing are part of the value here.
        raw.entries[0].2.extend(long(got, 40));
        raw.n_entries = Some(raw.entries.len() as u64 + 1);
        out.push((raw, Defect::KeyLength { got }, entry_at(&f, 1)));
    }
    out
}

fn value_defects() -> Vec<(GgufFile, Defect, u64)> {
    let value = |ty, value: &[u8], plus, defect| bad_entry(b"key", ty, value, plus, defect);
    let mut out = vec![
        value(13, &[0; 8], 11, Defect::ValueType { got: 13 }),
        value(u32::MAX, &[0; 8], 11, Defect::ValueType { got: u32::MAX }),
        value(1 << 8, &[0; 8], 11, Defect::ValueType { got: 256 }),
        value(BOOL, &[2], 15, Defect::Bool { got: 2 }),
        value(BOOL, &[255], 15, Defect::Bool { got: 255 }),
        value(ARRAY, &array(BOOL, 3, &[0, 1, 3]), 29, Defect::Bool { got: 3 }),
        value(ARRAY, &array(13, 1, &[0; 8]), 15, Defect::ElementType { got: 13 }),
        value(ARRAY, &array(u32::MAX, 0, &[]), 15, Defect::ElementType { got: u32::MAX }),
        value(ARRAY, &array(ARRAY, 1, &array(U8, 0, &[])), 15, Defect::NestedArray),
        value(ARRAY, &array(ARRAY, 0, &[]), 15, Defect::NestedArray),
    ];
    for got in [(16 << 20) + 1, 1 << 32, 1 << 63, u64::MAX] {
        let bytes = got.to_le_bytes();
        out.push(value(STRING, &bytes, 15, Defect::StringLength { got }));
        out.push(value(ARRAY, &array(STRING, 1, &bytes), 27, Defect::StringLength { got }));
    }
    for (element, counts) in [
        (U8, &[1 << 32, 1 << 63, u64::MAX][..]),
        (U32, &[1 << 30, 1 << 62, (1 << 62) + 1, u64::MAX]),
        (12, &[1 << 29, 1 << 61, (1 << 61) + 1, u64::MAX]),
        (STRING, &[1 << 29, 1 << 61, (1 << 61) + 1, u64::MAX]),
    ] {
        for &got in counts {
            let f = value(ARRAY, &array(element, got, &[]), 19, Defect::Magic).0;
            let offset = entry_at(&f, f.entries.len() - 1) + 19;
            let have = f.build().len() as u64 - offset - 8;
            out.push((f, Defect::ArrayLength { got, have }, offset));
        }
    }
    out
}

fn alignment_defects() -> Vec<(GgufFile, Defect, u64)> {
    let mut out = vec![];
    for got in [0, 1, 4, 7, 12, 31, 33, 96, 131_072, 1 << 31, u32::MAX] {
        out.push(bad_entry(b"general.alignment", U32, &got.to_le_bytes(), 0, Defect::Alignment { got }));
    }
    for (ty, bytes) in [(I32, &[32, 0, 0, 0][..]), (10, &[32, 0, 0, 0, 0, 0, 0, 0]), (U8, &[32]), (F32, &[0, 0, 0, 66])]
    {
        out.push(bad_entry(b"general.alignment", ty, bytes, 0, Defect::AlignmentType));
    }
    out.push(bad_entry(b"general.alignment", STRING, &string(b"32"), 0, Defect::AlignmentType));
    out.push(bad_entry(b"general.alignment", ARRAY, &array(U32, 1, &[32, 0, 0, 0]), 0, Defect::AlignmentType));
    out
}

fn record_defects() -> Vec<(GgufFile, Defect, u64)> {
    let name = |bytes: &[u8], defect| bad_tensor(|t| t.name = bytes.to_vec(), 0, defect);
    let dims = |dims: &[u64], plus, defect| bad_tensor(|t| t.dims = dims.to_vec(), plus, defect);
    // "i2" is 2 bytes: the number of dimensions is at 10, the dimensions start at 14.
    let mut out = vec![
        name(b"", Defect::NameEmpty),
        name(&[b'n'; 129], Defect::NameLength { got: 129 }),
        name(b"a\0", Defect::NameNul),
        name(b"\xc3\x28", Defect::NameUtf8),
        name(b"\xf0\x9f", Defect::NameUtf8),
        name(b"norm", Defect::NameDuplicate),
        name(b"four", Defect::NameDuplicate),
        dims(&[], 10, Defect::DimCount { got: 0 }),
        dims(&[128, 1, 1, 1, 1], 10, Defect::DimCount { got: 5 }),
        dims(&[0, 2], 14, Defect::DimZero { dim: 0 }),
        dims(&[128, 0], 22, Defect::DimZero { dim: 1 }),
        dims(&[128, 1, 1, 0], 38, Defect::DimZero { dim: 3 }),
        dims(&[1 << 63, 2], 0, Defect::SizeOverflow),
        dims(&[1 << 32, 1 << 32], 0, Defect::SizeOverflow),
        dims(&[128, u64::MAX], 0, Defect::SizeOverflow),
        dims(&[1 << 16, 1 << 16, 1 << 16, 1 << 16], 0, Defect::SizeOverflow),
        dims(&[64, 2], 0, Defect::RowBlocks { block: 128, got: 64 }),
        dims(&[129, 2], 0, Defect::RowBlocks { block: 128, got: 129 }),
        dims(&[1], 0, Defect::RowBlocks { block: 128, got: 1 }),
        // The elements fit 64 bits, the bytes do not.
        bad_tensor(|t| (t.dims, t.type_id) = (vec![1 << 62], 0), 0, Defect::SizeOverflow),
        bad_tensor(|t| (t.dims, t.type_id) = (vec![1 << 31, 1 << 32], 1), 0, Defect::SizeOverflow),
    ];
    for id in [4, 5, 31, 32, 33, 37] {
        out.push(bad_tensor(|t| t.type_id = id, 30, Defect::TypeRemoved { id }));
    }
    for id in (15..30).chain([9, 38, 39, 40]) {
        out.push(bad_tensor(|t| t.type_id = id, 30, Defect::TypeRefused { id }));
    }
    for id in [44, 99, 1000, 1 << 31, u32::MAX, 36 << 8] {
        out.push(bad_tensor(|t| t.type_id = id, 30, Defect::TypeUnknown { id }));
    }
    out
}

fn place_defects() -> Vec<(GgufFile, Defect, u64)> {
    let have = tiny().build().len() as u64;
    let f = tiny();
    let base = with(&f.build(), |f| f.data_offset()).unwrap();
    let offset = |at: u64, defect| bad_tensor(|t| t.offset = Some(at), 0, defect);
    // Data section: norm 0..32, w 32..134, four 160..208, i2 224..320.
    let mut out = vec![
        offset(225, Defect::OffsetAlignment { alignment: 32, got: 225 }),
        offset(240, Defect::OffsetAlignment { alignment: 32, got: 240 }),
        offset(u64::MAX, Defect::OffsetAlignment { alignment: 32, got: u64::MAX }),
        offset(256, Defect::TensorBounds { need: base + 256 + 96, have }),
        offset(1 << 40, Defect::TensorBounds { need: base + (1 << 40) + 96, have }),
        offset(u64::MAX - 31, Defect::TensorBounds { need: u64::MAX, have }),
        offset(1 << 63, Defect::TensorBounds { need: base + (1 << 63) + 96, have }),
        offset(192, Defect::TensorOverlap { expected: base + 208, got: base + 192 }),
        // The same place as another tensor: the later record is refused.
        offset(160, Defect::TensorOverlap { expected: base + 208, got: base + 160 }),
        bad_tensor(
            |t| t.dims = vec![128, 1 << 40],
            0,
            Defect::TensorBounds { need: base + 224 + (1 << 45) + 32, have },
        ),
        // One row more than there are bytes for.
        bad_tensor(|t| t.dims = vec![128, 3], 0, Defect::TensorBounds { need: base + 224 + 128, have }),
    ];
    // Inside a larger one: the tensor after it in the file is refused.
    let (f, ..) = bad_tensor(|t| t.offset = Some(0), 0, Defect::Magic);
    let defect = Defect::TensorOverlap { expected: base + 32, got: base };
    out.push((f.clone(), defect, record_at(&f, 3)));
    out
}

fn type_42_defects() -> Vec<(GgufFile, Defect, u64)> {
    let file = |sizes: &[usize]| {
        sizes
            .iter()
            .enumerate()
            .fold(GgufFile::default(), |f, (i, &n)| f.tensor(format!("{i}"), &[256, 16], 42, vec![0; n]))
    };
    // 4096 weights: 1152, 1088 and 672 bytes.
    let (a, b, c) = (1152, 1088, 672);
    let mixed = |sizes: &[usize], i| {
        let f = file(sizes);
        let offset = record_at(&f, i);
        (f, Defect::Type42Mixed, offset)
    };
    let none = |sizes: &[usize], i: usize, distance| {
        let f = file(sizes);
        let offset = record_at(&f, i);
        (f, Defect::Type42None { distance }, offset)
    };
    let small = GgufFile::default().tensor("a", &[256], 42, vec![0; 96]).tensor("b", &[256], 42, vec![0; 96]);
    vec![
        mixed(&[a, b, a], 1),
        mixed(&[c, c, a], 2),
        none(&[a, 32, a], 1, 32),
        none(&[a + 32, a], 0, a as u64 + 32),
        (small, Defect::Type42Ambiguous, 24),
        (file(&[a - 32]), Defect::Type42Ambiguous, 24),
    ]
}

#[test]
fn every_defect_is_refused_for_its_own_reason() {
    let lists = [
        header_defects(),
        key_defects(),
        value_defects(),
        alignment_defects(),
        record_defects(),
        place_defects(),
        type_42_defects(),
    ];
    let mut count = 0;
    for (i, (file, defect, offset)) in lists.into_iter().flatten().enumerate() {
        let started = Instant::now();
        let error = error_of(&file.build());
        assert_eq!(error, GgufError { defect, offset }, "case {i}");
        assert!(started.elapsed() < Duration::from_secs(2), "case {i}");
        let line = error.to_string();
        assert!(line.starts_with(&format!("GGUF, byte {offset}: ")) && !line.contains('\n'), "{line}");
        count += 1;
    }
    assert!(count >= 100, "{count}");
}

#[test]
fn refusals_say_the_way_out() {
    for (id, words) in
        [(38, "TL1"), (39, "TL2"), (39, "MXFP4"), (31, "Q4_0"), (19, "IQ"), (4, "removed"), (77, "not known")]
    {
        let line = error_of(&tiny().tensor("x", &[256], id, vec![0; 256]).build()).to_string();
        assert!(line.contains(words) && line.contains(&id.to_string()), "{line}");
    }
}

#[test]
fn type_42_is_told_by_size() {
    for (ty, bytes) in [(QuantType::Q2_0, 1152usize), (QuantType::Q2_0_G128, 1088), (QuantType::STQ1_0, 672)] {
        for tail in [0usize, 17] {
            let f = GgufFile::default()
                .tensor("a", &[256, 16], 42, vec![1; bytes])
                .tensor("norm", &[8], 0, vec![0; 32])
                .tensor("b", &[256, 16], 42, vec![2; bytes]);
            let built = [f.build(), vec![9; tail]].concat();
            with(&built, |f| {
                let [a, norm, b] = f.tensors() else { panic!() };
                assert_eq!((a.ty, norm.ty, b.ty), (ty, QuantType::F32, ty));
                assert_eq!((a.data, b.data), (&vec![1; bytes][..], &vec![2; bytes][..]));
            })
            .unwrap();
        }
    }
}

#[test]
fn any_order_and_gaps_are_accepted() {
    let mut f = tiny();
    // Behind the others in reverse order, with a hole.
    for (t, at) in f.tensors.iter_mut().zip([1024, 512, 352, 0]) {
        t.offset = Some(at);
        t.data.clear();
    }
    let mut bytes = f.build();
    let base = record_at(&f, 4).next_multiple_of(32);
    bytes.resize(base as usize + 1056, 0);
    with(&bytes, |f| assert_eq!(f.tensor("norm").unwrap().offset, base + 1024)).unwrap();
    // Bytes after the last tensor are nobody's.
    let bytes = [tiny().build(), vec![1; 1000]].concat();
    with(&bytes, |f| assert_eq!(f.tensors().len(), 4)).unwrap();
}

#[test]
fn limits_are_accepted() {
    let aligned = GgufFile { alignment: 65_536, ..tiny() }.u32("general.alignment", 65_536);
    with(&aligned.build(), |f| assert_eq!((f.alignment(), f.data_offset()), (65_536, 65_536))).unwrap();
    let aligned = GgufFile { alignment: 8, ..tiny() }.u32("general.alignment", 8);
    with(&aligned.build(), |f| assert_eq!(f.alignment(), 8)).unwrap();
    let edge = tiny().entry([b'k'; 256], U8, [1]).tensor([b'n'; 128], &[8], 0, vec![0; 32]);
    with(&edge.build(), |f| {
        assert!(matches!(f.value(&"k".repeat(256)), Some(Value::U8(1))));
        assert!(f.tensor(&"n".repeat(128)).is_some());
    })
    .unwrap();
    let vocabulary_only = GgufFile { tensors: vec![], ..tiny() };
    with(&vocabulary_only.build(), |f| assert!(f.tensors().is_empty())).unwrap();
    with(&GgufFile::default().build(), |f| assert!(f.entries().is_empty())).unwrap();
}

#[test]
fn strings_that_are_not_text() {
    let bytes = tiny().entry("s", STRING, string(b"\xff\xfe")).build();
    with(&bytes, |f| {
        assert!(matches!(f.value("s"), Some(Value::Str(b"\xff\xfe"))));
        assert_eq!(f.value("s").unwrap().text(), None);
        assert_eq!(f.str("s").unwrap_err().defect, Defect::ValueUtf8);
    })
    .unwrap();
}

#[test]
fn memory_is_what_was_promised() {
    let bytes = tiny().build();
    let need = Gguf::index_bytes(&bytes).unwrap();
    let mut memory = Memory::default();
    for have in (0..need).step_by(64) {
        let error = Gguf::parse(&bytes, &mut memory.carver(have)).unwrap_err();
        assert!(matches!(error, trill::Error::Mem(MemError::Full { .. })), "{have}");
    }
    let error = Gguf::parse(&bytes, &mut Carver::measure()).unwrap_err();
    assert_eq!(error, trill::Error::Mem(MemError::Full { need, have: 0 }));
}

/// Uses everything a parsed file hands out.
fn walk(f: Gguf<'_>) {
    for e in f.entries() {
        let found = f.value(e.key).expect("an entry is found by its key");
        if let Value::Array(a) = found {
            assert!(a.strings().is_none_or(|s| s.count() == a.len()));
            assert!(a.u32s().is_none_or(|s| s.count() == a.len()));
            assert!(a.i32s().is_none_or(|s| s.count() == a.len()));
            assert!(a.f32s().is_none_or(|s| s.count() == a.len()));
        }
        let _ = (f.u32(e.key), f.u64(e.key), f.f32(e.key), f.bool(e.key), f.str(e.key), f.array(e.key));
    }
    let mut spans: Vec<_> = f.tensors().iter().map(|t| (t.offset, t.data.len() as u64)).collect();
    spans.sort();
    assert!(spans.is_sorted_by(|a, b| a.0 + a.1 <= b.0), "tensors share bytes");
    for t in f.tensors() {
        assert_eq!(f.tensor(t.name).expect("a tensor is found by its name").offset, t.offset);
        assert_eq!(t.matrix().expect("a matrix").rows(), t.rows());
        assert_eq!(t.elements(), t.dims.iter().product::<u64>() as usize);
    }
}

#[test]
fn cut_at_every_byte() {
    let bytes = tiny().build();
    for len in 0..bytes.len() {
        let error = error_of(&bytes[..len]);
        let cut =
            matches!(error.defect, Defect::Truncated { .. } | Defect::TensorBounds { .. } | Defect::ArrayLength { .. });
        assert!(cut && error.offset <= len as u64, "{len}: {error}");
    }
}

#[test]
fn every_bit_of_the_metadata_flipped() {
    let bytes = tiny().build();
    let end = with(&bytes, |f| f.data_offset()).unwrap() as usize;
    let (mut refused, mut accepted) = (0, 0);
    for bit in 0..end * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match with(&flipped, walk) {
            Ok(()) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    // Bits of names, numbers and padding leave a sound file; those of counts, lengths and types do not.
    assert!(refused > 3000 && accepted > 1000, "{refused} {accepted}");
}

#[test]
fn random_damage() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let bytes = tiny().build();
    let edges = [0, 1, 0x7f, 0x80, 0xff];
    let started = Instant::now();
    for _ in 0..100_000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random() % 8 {
            let at = (random() as usize) % damaged.len();
            damaged[at] = if random() % 2 == 0 { edges[random() as usize % 5] } else { random() as u8 };
        }
        let _ = with(&damaged, walk);
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

/// The most names a file may have, long and alike, in an order that is bad for naive sorting.
#[test]
fn the_largest_index_is_quick() {
    let mut f = GgufFile::default();
    for i in 0..4096u32 {
        f = f.entry(format!("{}{:05}", "k".repeat(200), i.reverse_bits() >> 20), U32, i.to_le_bytes());
    }
    let tensors = (0..65_536u32).map(|i| Tensor {
        name: format!("{}{:05}", "n".repeat(100), i.reverse_bits() >> 16).into_bytes(),
        dims: vec![8],
        type_id: 0,
        offset: Some(u64::from(i ^ 0x5555) * 32),
        data: vec![],
    });
    f.tensors = tensors.collect();
    let mut bytes = f.build();
    bytes.resize(bytes.len() + 65_536 * 32, 0);
    let started = Instant::now();
    with(&bytes, |f| {
        let name = format!("{}{:05}", "n".repeat(100), 4711);
        assert_eq!(f.tensor(&name).unwrap().name, name);
    })
    .unwrap();
    let took = started.elapsed();
    // Other machines are emulated in CI, on cores that are busy with other tests.
    let limit = Duration::from_secs(if cfg!(target_arch = "x86_64") { 1 } else { 10 });
    assert!(took < limit, "{took:?}");
    println!("4,096 keys and 65,536 tensors in {took:?}");
    // The same with every name twice: still no quadratic search.
    f.tensors[65_535].name = f.tensors[0].name.clone();
    let mut bytes = f.build();
    bytes.resize(bytes.len() + 65_536 * 32, 0);
    assert_eq!(error_of(&bytes), GgufError { defect: Defect::NameDuplicate, offset: record_at(&f, 65_535) });
}
