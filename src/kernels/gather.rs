//! Rows that do not lie side by side, brought side by side for kernels that take many at a time.

use crate::quant::RowSpan;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Copies `rows` of `from` to `to`, one after another. Each row is far from the last one, so while one is copied the
/// lines of the next are asked for.
///
/// # Panics
/// If a row does not exist or has no room: a bug of the caller.
pub(crate) fn gather(from: &RowSpan<'_>, rows: &[u32], to: &mut [u8]) {
    let row = |r: u32| &from.data[r as usize * from.row_bytes..][..from.row_bytes];
    for (i, to) in to.chunks_exact_mut(from.row_bytes).take(rows.len()).enumerate() {
        let (now, next) = (row(rows[i]), row(rows[(i + 1).min(rows.len() - 1)]));
        let (lines, rest) = now.as_chunks::<LINE>();
        let (to_lines, to_rest) = to.as_chunks_mut::<LINE>();
        for (l, (to, line)) in to_lines.iter_mut().zip(lines).enumerate() {
            prefetch(next[LINE * l..].as_ptr());
            *to = *line;
        }
        prefetch(next[from.row_bytes - 1..].as_ptr());
        to_rest.copy_from_slice(rest);
    }
}

/// Asks for the line of the cache that holds the byte at `p`.
#[inline(always)]
fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address; every x86-64 CPU has it.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(target_arch = "aarch64")]
    super::neon::prefetch(p);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn rows_come_in_the_order_asked_for() {
        for row_bytes in [1, 63, 64, 130] {
            let data: Vec<u8> = (0..7 * row_bytes).map(|i| (i * 37 % 251) as u8).collect();
            let from = RowSpan { data: &data, rows: 7, cols: 0, row_bytes, scale: 1.0 };
            let rows = [6, 0, 3, 3];
            let mut to = vec![0xff; 5 * row_bytes];
            gather(&from, &rows, &mut to);
            let want: Vec<u8> =
                rows.iter().flat_map(|&r| &data[r as usize * row_bytes..][..row_bytes]).copied().collect();
            assert_eq!(to[..want.len()], want);
            assert!(to[want.len()..].iter().all(|b| *b == 0xff));
        }
    }
}
