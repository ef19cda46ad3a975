//! Tables without borders: a head in capitals, columns two blanks apart. Used by every listing.

use comfy_table::{Cell, Color, Table, presets};

/// A table with this head.
#[must_use]
pub fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.to_vec());
    // Colours always; `show::print` takes them out where they do not belong.
    table.enforce_styling();
    table.style_text_only();
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The finished text, one line per row, no blanks at line ends; `nothing` when there are no rows.
#[must_use]
pub fn finish(table: &Table, nothing: &str) -> String {
    if table.row_iter().next().is_none() {
        return format!("{nothing}\n");
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A word of state in its colour.
#[must_use]
pub fn state_cell(word: &str) -> Cell {
    let cell = Cell::new(word);
    match tone(word) {
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Wait => cell.fg(Color::Yellow),
        Tone::Quiet => cell,
    }
}

/// How a state should look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Wrong.
    Bad,
    /// On its way, or undecided.
    Wait,
    /// Neither.
    Quiet,
}

/// The tone of a state's word, of rollouts, hosts in them, apps and tokens alike.
#[must_use]
pub fn tone(word: &str) -> Tone {
    match word {
        "succeeded" | "healthy" | "passing" | "connected" | "valid" | "yes" => Tone::Good,
        "failed" | "failing" | "firing" | "reverted" | "rolled_back" | "rollback_failed" | "degraded" | "revoked"
        | "no" => Tone::Bad,
        "paused" | "rolling_back" | "reverting" | "unreachable" | "skipped" | "running" | "gating" | "activating"
        | "fetching" | "staged" | "staging" | "removing" | "offline" | "pending" | "active" => Tone::Wait,
        _ => Tone::Quiet,
    }
}

/// The word in the colour of its tone.
#[must_use]
pub fn paint(word: &str, text: &str) -> String {
    use owo_colors::OwoColorize as _;
    match tone(word) {
        Tone::Good => text.green().to_string(),
        Tone::Bad => text.red().to_string(),
        Tone::Wait => text.yellow().to_string(),
        Tone::Quiet => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    //! The shape of a table.
    use super::*;
    use crate::show::tests::bare;

    #[test]
    fn a_table_has_a_head_and_aligned_columns() {
        let mut rows = table(&["HOST", "STATE", "DETAIL"]);
        rows.add_row(vec![Cell::new("web-1"), state_cell("healthy"), Cell::new("")]);
        rows.add_row(vec![Cell::new("database-1"), state_cell("failed"), Cell::new("exited with 1")]);
        let text = bare(&finish(&rows, "no hosts"));
        assert_eq!(text, "HOST        STATE    DETAIL\nweb-1       healthy\ndatabase-1  failed   exited with 1\n");
        assert_eq!(finish(&table(&["A"]), "no hosts"), "no hosts\n");
    }
}
