//! Bytes as a GGUF file. What is accepted lies inside the file and apart, was given exactly the memory promised, and
//! survives being written again: the new file says the same.

use crate::common::gguf_file::{GgufFile, Tensor, with};
use trill::gguf::{Gguf, Value, ValueType};

pub fn run(input: &[u8]) {
    let Ok(again) = with(input, |file| {
        check(&file, input);
        rewritten(&file)
    }) else {
        return;
    };
    // What this number means is told by the gaps between tensors, which are not written again.
    if again.tensors.iter().any(|t| t.type_id == 42) {
        return;
    }
    let bytes = again.build();
    let third = with(&bytes, |file| {
        check(&file, &bytes);
        rewritten(&file)
    });
    let third = third.expect("what was read can be read again");
    assert!(third.entries == again.entries, "entries");
    for (a, b) in third.tensors.iter().zip(&again.tensors) {
        assert!(a.name == b.name && a.dims == b.dims && a.type_id == b.type_id && a.data == b.data);
    }
    assert_eq!(third.build(), bytes);
}

fn check(file: &Gguf<'_>, bytes: &[u8]) {
    let mut places: Vec<(usize, usize)> = file
        .tensors()
        .iter()
        .map(|t| {
            let (start, end) = (t.offset as usize, t.offset as usize + t.data.len());
            assert!(t.offset >= file.data_offset() && std::ptr::eq(&bytes[start..end], t.data));
            assert_eq!(file.tensor(t.name).map(|found| found.offset), Some(t.offset));
            assert_eq!(t.ty.tensor_bytes(t.rows(), t.cols()), Some(t.data.len()));
            let matrix = t.matrix().expect("a tensor is a matrix");
            let mut row = vec![0.0; t.cols().min(1 << 16)];
            if row.len() == t.cols() {
                matrix.decode_row(t.rows() - 1, &mut row);
            }
            matrix.health(t.rows().div_ceil(8));
            (start, end)
        })
        .collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|w| w[0].1 <= w[1].0), "tensors share bytes");
    for entry in file.entries() {
        assert!(file.value(entry.key).is_some_and(|v| v.ty() == entry.value.ty()));
        let found = [
            file.u32(entry.key).is_ok(),
            file.u64(entry.key).is_ok(),
            file.f32(entry.key).is_ok(),
            file.bool(entry.key).is_ok(),
            file.str(entry.key).is_ok(),
        ];
        match entry.value {
            Value::Array(array) => {
                assert!(file.array(entry.key).is_ok() && found == [false; 5]);
                let counts = [
                    array.strings().map(|s| s.count()),
                    array.u32s().map(|s| s.count()),
                    array.i32s().map(|s| s.count()),
                    array.f32s().map(|s| s.count()),
                ];
                assert!(counts.iter().flatten().all(|&n| n == array.len()));
            }
            Value::Str(_) => assert!(found[..4] == [false; 4]),
            _ => assert!(!found[4] && file.array(entry.key).is_err()),
        }
    }
}

/// The same file in parts.
fn rewritten(file: &Gguf<'_>) -> GgufFile {
    let mut out = GgufFile { alignment: file.alignment() as usize, version: file.version(), ..GgufFile::default() };
    for entry in file.entries() {
        let (id, bytes) = value(&entry.value);
        out.entries.push((entry.key.as_bytes().to_vec(), id, bytes));
    }
    for t in file.tensors() {
        let dims = t.dims[..t.n_dims as usize].to_vec();
        let (name, type_id) = (t.name.as_bytes().to_vec(), t.type_id);
        out.tensors.push(Tensor { name, dims, type_id, offset: None, data: t.data.to_vec() });
    }
    out
}

fn value(value: &Value<'_>) -> (u32, Vec<u8>) {
    let string = crate::common::gguf_file::string;
    match *value {
        Value::U8(v) => (0, vec![v]),
        Value::I8(v) => (1, v.to_le_bytes().to_vec()),
        Value::U16(v) => (2, v.to_le_bytes().to_vec()),
        Value::I16(v) => (3, v.to_le_bytes().to_vec()),
        Value::U32(v) => (4, v.to_le_bytes().to_vec()),
        Value::I32(v) => (5, v.to_le_bytes().to_vec()),
        Value::F32(v) => (6, v.to_le_bytes().to_vec()),
        Value::Bool(v) => (7, vec![u8::from(v)]),
        Value::Str(v) => (8, string(v)),
        Value::Array(v) => (9, crate::common::gguf_file::array(id(v.ty()), v.len() as u64, v.data())),
        Value::U64(v) => (10, v.to_le_bytes().to_vec()),
        Value::I64(v) => (11, v.to_le_bytes().to_vec()),
        Value::F64(v) => (12, v.to_le_bytes().to_vec()),
    }
}

fn id(ty: ValueType) -> u32 {
    match ty {
        ValueType::U8 => 0,
        ValueType::I8 => 1,
        ValueType::U16 => 2,
        ValueType::I16 => 3,
        ValueType::U32 => 4,
        ValueType::I32 => 5,
        ValueType::F32 => 6,
        ValueType::Bool => 7,
        ValueType::Str => 8,
        ValueType::Array => 9,
        ValueType::U64 => 10,
        ValueType::I64 => 11,
        ValueType::F64 => 12,
    }
}
