//! Results as text.

use crate::exit::Outcome;
use crate::terminal::Screen;

/// Writes `text` to standard output.
pub(crate) fn print(text: &str) -> Outcome {
    print_bytes(text.as_bytes())
}

/// Writes a text whose bytes need not be UTF-8 to standard output.
pub(crate) fn print_bytes(text: &[u8]) -> Outcome {
    let mut screen = Screen::text();
    screen.add(text)?;
    screen.finish()
}

/// A table: columns as wide as they need to be; those named in `right` are aligned to the right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            let cell = if right.contains(&c) { gap + cell } else { cell.clone() + &gap };
            line.push_str(if c == 0 { "" } else { "  " });
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["é".into(), "1".into()], vec!["abc".into(), "22".into(), "x".into()]];
        assert_eq!(table(&rows, &[1]), "é     1\nabc  22  x\n");
    }
}
