//! Where output goes: results to stdout, everything else to stderr; colour only where it is wanted.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, TableStyle};
use serde::Serialize;

use super::error::CliError;

/// Headings.
pub const STRONG: Style = Style::new().bold();
/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What went wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What deserves a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// What can be skipped.
pub const DIM: Style = Style::new().dimmed();

/// `text` in a style; the streams drop the style where no colour is wanted.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// What a command prints with.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One JSON document instead of text.
    pub json: bool,
    /// No notes on stderr.
    pub quiet: bool,
}

impl Output {
    /// Prints one JSON document on a line of its own.
    ///
    /// # Errors
    /// stdout is gone.
    pub fn document<T: Serialize>(&self, document: &T) -> Result<(), CliError> {
        let mut text = serde_json::to_string(document).map_err(|e| CliError::Internal(e.to_string()))?;
        text.push('\n');
        raw(text.as_bytes())
    }

    /// Prints text for people, with a line end.
    ///
    /// # Errors
    /// stdout is gone.
    pub fn text(&self, text: impl std::fmt::Display) -> Result<(), CliError> {
        raw(format!("{text}\n").as_bytes())
    }

    /// Says something on stderr that is no result. Not to scripts: what matters of it stands in the document.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet && !self.json {
            self.warn(text);
        }
    }

    /// Says something on stderr even when it should be quiet.
    pub fn warn(&self, text: impl std::fmt::Display) {
        // There is nowhere left to say that stderr is gone.
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// Whether moving pictures on stderr are welcome.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }
}

/// Prints bytes as they are, except for colours that stdout doesn't want.
///
/// # Errors
/// stdout is gone.
pub fn raw(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(CliError::Output)
}

/// What a line of a table has room for: terminals are as wide, mails and pages about as wide.
pub const LINE_COLUMNS: usize = 80;

/// The space between columns.
const GAP: u16 = 2;

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
    /// Words of any length: cut off where a line would be longer than [`LINE_COLUMNS`].
    Long(&'static str),
}

/// Rows in aligned columns under a heading, without borders. No line ends with a space or a line end.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    // What stands behind the last column is trimmed.
    table.load_style(TableStyle::new()).set_width(LINE_COLUMNS as u16 + GAP);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|column| match column {
        Column::Left(name) | Column::Right(name) | Column::Long(name) => name.to_owned(),
    }));
    for row in rows {
        let mut row = Row::from(row.iter().map(|cell| printable(cell)));
        row.max_height(1);
        table.add_row(row);
    }
    for (at, column) in columns.iter().enumerate() {
        let Some(made) = table.column_mut(at) else { continue };
        made.set_padding((0, GAP));
        if matches!(column, Column::Right(_)) {
            made.set_cell_alignment(CellAlignment::Right);
        }
        if !matches!(column, Column::Long(_)) {
            made.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let text = table.to_string();
    let mut lines = text.lines().map(str::trim_end);
    let heading = paint(STRONG, lines.next().unwrap_or_default());
    std::iter::once(heading).chain(lines.map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

/// Text of other people's making (titles, other programs' messages) without what could move a terminal's cursor, break a
/// line, or make what stands beside it read in another order.
pub fn printable(text: &str) -> String {
    let reorders = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || reorders(c) { '\u{fffd}' } else { c }).collect()
}

/// `1 like`, `2 likes`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Bytes for people.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = number as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_borders() {
        let rows =
            vec![vec!["1".to_owned(), "a".to_owned()], vec!["200".to_owned(), "long title".to_owned()]];
        let text = table(&[Column::Right("ID"), Column::Left("TITLE")], rows);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, " ID  TITLE\n  1  a\n200  long title");
    }

    #[test]
    fn long_words_are_cut_off_where_the_line_is_full_and_nothing_else_is() {
        let columns = [Column::Right("ARTICLE"), Column::Left("WHAT"), Column::Long("TITLE")];
        let row = |title: &str| vec![u64::MAX.to_string(), "w".repeat(10), title.to_owned()];
        let last = |title: &str| {
            let text = table(&columns, [row("short"), row(title)]);
            let plain = anstream::adapter::strip_str(&text).to_string();
            assert_eq!(plain.lines().count(), 3, "{plain}");
            plain.lines().last().unwrap().split_once("w  ").unwrap().1.to_owned()
        };
        assert_eq!(last(&"t".repeat(46)), "t".repeat(46));
        assert_eq!(last(&"t".repeat(255)), format!("{}…", "t".repeat(45)));
        assert_eq!(last(&"長".repeat(255)), format!("{}…", "長".repeat(22)));
        let text = table(&[Column::Left("A"), Column::Left("B")], [vec!["a".repeat(70), "b".repeat(70)]]);
        assert!(text.ends_with(&format!("{}  {}", "a".repeat(70), "b".repeat(70))), "{text}");
    }

    #[test]
    fn a_cell_can_neither_break_a_line_nor_move_the_cursor() {
        let text = table(&[Column::Left("T")], [vec!["a\nb\u{1b}[2J".to_owned()]]);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "T\na\u{fffd}b\u{fffd}[2J");
    }

    #[test]
    fn a_title_leaves_the_order_of_the_line_around_it_alone() {
        assert_eq!(printable("a\u{202e}b\u{202c}c\u{2066}d\u{2069}"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
        assert_eq!(printable("שלום, عالم"), "שלום, عالم");
    }

    #[test]
    fn amounts_are_told_as_people_do() {
        assert_eq!(count(1, "like", "likes"), "1 like");
        assert_eq!(count(0, "like", "likes"), "0 likes");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 20), "5.0 MiB");
    }
}
