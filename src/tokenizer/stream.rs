//! Bytes that arrive in pieces, handed on as whole scalars.

/// Turns a stream of bytes into text: what comes out, put together, is what `String::from_utf8_lossy`
/// makes of all the bytes put together, however they were cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Stream {
    /// The start of a scalar that is not whole yet.
    pending: [u8; 4],
    len: usize,
}

impl Utf8Stream {
    /// An empty stream.
    pub const fn new() -> Self {
        Utf8Stream { pending: [0; 4], len: 0 }
    }

    /// Takes `bytes` and hands out the text that is certain now, in one or more parts.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(&str)) {
        while self.len > 0 {
            let Some((&next, rest)) = bytes.split_first() else { return };
            if !self.complete(next, out) {
                bytes = rest;
            }
        }
        while !bytes.is_empty() {
            match core::str::from_utf8(bytes) {
                Ok(text) => return out(text),
                Err(e) => {
                    let (valid, rest) = bytes.split_at(e.valid_up_to());
                    if let Ok(text) = core::str::from_utf8(valid)
                        && !text.is_empty()
                    {
                        out(text);
                    }
                    let Some(bad) = e.error_len() else { return self.keep(rest) };
                    out("\u{fffd}");
                    bytes = rest.get(bad..).unwrap_or_default();
                }
            }
        }
    }

    /// The end: an unfinished scalar becomes U+FFFD. The stream is empty afterwards.
    pub fn finish(&mut self, out: &mut dyn FnMut(&str)) {
        if core::mem::take(&mut self.len) > 0 {
            out("\u{fffd}");
        }
    }

    /// Adds a byte to the unfinished scalar. True if the byte cannot belong to it: then the start of that
    /// scalar went out as U+FFFD and the byte is still to be read.
    fn complete(&mut self, next: u8, out: &mut dyn FnMut(&str)) -> bool {
        let [a, b, c, _] = self.pending;
        let joined = match self.len {
            1 => [a, next, 0, 0],
            2 => [a, b, next, 0],
            _ => [a, b, c, next],
        };
        let len = self.len + 1;
        match joined.get(..len).map(core::str::from_utf8) {
            Some(Ok(text)) => {
                self.len = 0;
                out(text);
                false
            }
            Some(Err(e)) if e.error_len().is_none() => {
                (self.pending, self.len) = (joined, len);
                false
            }
            _ => {
                self.len = 0;
                out("\u{fffd}");
                true
            }
        }
    }

    /// Keeps the start of a scalar: at most three bytes, since four would be a whole one.
    fn keep(&mut self, start: &[u8]) {
        for (slot, byte) in self.pending.iter_mut().zip(start) {
            *slot = *byte;
        }
        self.len = start.len().min(3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn streamed(bytes: &[u8], cut: usize) -> String {
        let mut text = String::new();
        let mut stream = Utf8Stream::new();
        for part in bytes.chunks(cut.max(1)) {
            stream.push(part, &mut |s| {
                assert!(!s.is_empty());
                text.push_str(s);
            });
        }
        stream.finish(&mut |s| text.push_str(s));
        text
    }

    #[test]
    fn equals_lossy_decoding_however_it_is_cut() {
        // Every sequence of up to four bytes over the bytes that matter: bounds of each lead and trail range.
        let edges = [
            0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4,
            0xf5, 0xff,
        ];
        for n in 0..edges.len().pow(4) {
            let bytes: Vec<u8> = (0..4).map(|i| edges[n / edges.len().pow(i) % edges.len()]).collect();
            for len in 1..=4 {
                let whole = String::from_utf8_lossy(&bytes[..len]);
                for cut in 1..=3 {
                    assert_eq!(streamed(&bytes[..len], cut), whole, "{:02x?} by {cut}", &bytes[..len]);
                }
            }
        }
    }
}
