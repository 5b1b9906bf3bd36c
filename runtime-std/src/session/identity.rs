//! Who a session belongs to: the model, and for a conversation its template and system message.

use super::format::{Kind, Owner};
use crate::engine::Opened;
use crate::options::Options;
use sha2::{Digest, Sha256};
use trill::gguf::I2sLayout;
use trill::session::StateKey;

/// Bytes looked at at both ends and in the middle of every tensor.
const SAMPLE: usize = 64;

/// A hash of the model: the length of its file, everything before the weights (metadata, vocabulary, table of
/// tensors), and 64 bytes at the start, in the middle and at the end of every tensor: at most two more pages a tensor, and
/// no pass over the weights. Training changes nearly every weight; a file in which a few bytes were changed by
/// hand can have the same hash.
fn model(options: &Options, opened: &Opened) -> [u8; 32] {
    let mut hash = Sha256::new();
    let bytes = opened.file.bytes;
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update([u8::from(options.i2s == I2sLayout::Arm64)]);
    let data = usize::try_from(opened.gguf.data_offset()).unwrap_or(usize::MAX);
    hash.update(&bytes[..data.min(bytes.len())]);
    for tensor in opened.gguf.tensors() {
        let last = tensor.data.len().saturating_sub(SAMPLE);
        for at in [0, last / 2, last] {
            hash.update(&tensor.data[at..][..SAMPLE.min(tensor.data.len())]);
        }
    }
    hash.finalize().into()
}

impl Owner {
    /// The owner of a text.
    pub(crate) fn text(options: &Options, opened: &Opened, state: StateKey) -> Owner {
        Owner { kind: Kind::Text, model: model(options, opened), conversation: [0; 32], state }
    }

    /// The owner of a conversation; `form` is a hash of its template and system message.
    pub(crate) fn chat(options: &Options, opened: &Opened, state: StateKey, form: [u8; 32]) -> Owner {
        Owner { kind: Kind::Chat, model: model(options, opened), conversation: form, state }
    }

    /// A name for this owner's file, different for every owner.
    pub(super) fn file_name(&self) -> String {
        let hash = Sha256::digest(self.header(0));
        hash[..8].iter().fold(String::new(), |name, byte| name + &format!("{byte:02x}"))
    }
}
