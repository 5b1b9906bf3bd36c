//! The line being edited, without a terminal.

/// Text and a cursor between two of its characters.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    text: String,
    /// Byte index, always on a character boundary.
    cursor: usize,
}

impl Line {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn before_cursor(&self) -> &str {
        &self.text[..self.cursor]
    }

    pub(super) fn set(&mut self, text: &str) {
        self.text.clear();
        self.text.push_str(text);
        self.cursor = self.text.len();
    }

    pub(super) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    pub(super) fn insert(&mut self, text: &str) {
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.previous();
    }

    pub(super) fn right(&mut self) {
        self.cursor += self.text[self.cursor..].chars().next().map_or(0, char::len_utf8);
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub(super) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub(super) fn word_right(&mut self) {
        let rest = &self.text[self.cursor..];
        let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let after = rest[word..].find(char::is_whitespace).unwrap_or(rest.len() - word);
        self.cursor += word + after;
    }

    pub(super) fn backspace(&mut self) {
        let start = self.previous();
        self.remove(start, self.cursor);
    }

    pub(super) fn delete(&mut self) {
        let end = self.cursor + self.text[self.cursor..].chars().next().map_or(0, char::len_utf8);
        self.remove(self.cursor, end);
    }

    pub(super) fn kill_to_end(&mut self) {
        self.text.truncate(self.cursor);
    }

    pub(super) fn kill_to_start(&mut self) {
        self.remove(0, self.cursor);
    }

    pub(super) fn kill_word(&mut self) {
        let start = self.word_start();
        self.remove(start, self.cursor);
    }

    fn remove(&mut self, start: usize, end: usize) {
        self.text.replace_range(start..end, "");
        self.cursor = start;
    }

    fn previous(&self) -> usize {
        self.before_cursor().char_indices().next_back().map_or(0, |(at, _)| at)
    }

    fn word_start(&self) -> usize {
        let before = self.before_cursor().trim_end();
        before.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(0, |(at, c)| at + c.len_utf8())
    }
}

/// Lines entered before, and the way through them.
#[derive(Default)]
pub(super) struct History {
    lines: Vec<String>,
    /// Which one is shown; `lines.len()` is the line being written.
    at: usize,
    draft: String,
}

/// Lines kept.
const HISTORY_MAX: usize = 500;

impl History {
    pub(super) fn add(&mut self, line: &str) {
        if !line.trim().is_empty() && self.lines.last().is_none_or(|last| last != line) {
            if self.lines.len() == HISTORY_MAX {
                self.lines.remove(0);
            }
            self.lines.push(line.to_owned());
        }
        self.at = self.lines.len();
    }

    /// Shows the line before, keeping what was being written.
    pub(super) fn up(&mut self, line: &mut Line) {
        if let Some(earlier) = self.at.checked_sub(1) {
            if self.at == self.lines.len() {
                self.draft = line.text().to_owned();
            }
            self.at = earlier;
            line.set(&self.lines[earlier]);
        }
    }

    pub(super) fn down(&mut self, line: &mut Line) {
        if self.at < self.lines.len() {
            self.at += 1;
            line.set(self.lines.get(self.at).unwrap_or(&self.draft));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_whole_characters() {
        let mut line = Line::default();
        line.insert("héllo 漢字");
        line.backspace();
        line.home();
        line.right();
        line.delete();
        assert_eq!((line.text(), line.before_cursor()), ("hllo 漢", "h"));
        line.end();
        line.right();
        line.kill_word();
        assert_eq!(line.text(), "hllo ");
        line.word_left();
        line.insert("x");
        line.kill_to_end();
        line.left();
        line.left();
        line.backspace();
        assert_eq!((line.text(), line.before_cursor()), ("x", ""));
    }

    #[test]
    fn words() {
        let mut line = Line::default();
        line.insert("one  two three");
        line.word_left();
        line.word_left();
        assert_eq!(line.before_cursor(), "one  ");
        line.word_right();
        assert_eq!(line.before_cursor(), "one  two");
        line.kill_to_start();
        assert_eq!(line.take(), " three");
        assert_eq!(line.before_cursor(), "");
    }

    #[test]
    fn history_keeps_the_draft() {
        let (mut history, mut line) = (History::default(), Line::default());
        for text in ["a", "b", "b", " "] {
            history.add(text);
        }
        line.set("draft");
        history.up(&mut line);
        assert_eq!(line.text(), "b");
        history.up(&mut line);
        history.up(&mut line);
        assert_eq!(line.text(), "a");
        history.down(&mut line);
        history.down(&mut line);
        history.down(&mut line);
        assert_eq!(line.text(), "draft");
    }
}
