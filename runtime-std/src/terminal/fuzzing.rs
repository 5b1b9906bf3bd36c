//! The editor without a terminal, for `fuzz/`.

use super::editor::{View, apply};
use super::keys::{Key, read_key};
use super::line::{History, Line};
use super::message::Drawing;
use std::sync::Arc;

/// Types `bytes` into the editor of a terminal of `width` columns and calls `drawn` after each key with the text before
/// the cursor, the text after it, and what the terminal is sent.
pub(crate) fn keys(bytes: &[u8], prompt: &str, width: usize, drawn: &mut dyn FnMut(&str, &str, &str)) {
    let (mut line, mut history) = (Line::default(), History::default());
    let mut view = View { prompt, cursor_row: 0 };
    let mut rest = bytes.iter().copied();
    while let Some(key) = read_key(&mut |_| rest.next()) {
        match key {
            Key::Enter => history.add(&line.take()),
            Key::Interrupt => drop(line.take()),
            Key::Up => history.up(&mut line),
            Key::Down => history.down(&mut line),
            other => apply(other, &mut line),
        }
        let kept = Arc::default();
        view.frame(&line, width, &mut Drawing::kept(Arc::clone(&kept)));
        let frame = kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = line.before_cursor();
        drawn(before, &line.text()[before.len()..], &String::from_utf8_lossy(&frame));
    }
}
