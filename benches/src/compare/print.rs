//! A comparison on a terminal.

use std::io::{self, Write};

use comfy_table::CellAlignment;

use super::{Change, Comparison, Value};
use crate::report::units;
use crate::table::wrapping;

impl Comparison {
    /// Prints it.
    ///
    /// # Errors
    /// What writing says.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for warning in &self.warnings {
            writeln!(out, "Warning: {warning}")?;
        }
        changes(out, "Faster", &self.faster)?;
        changes(out, "Slower", &self.slower)?;
        if self.faster.is_empty() && self.slower.is_empty() {
            writeln!(out, "Of the engine, nothing changed beyond the noise of the repeats.")?;
        }
        let title =
            "The machine itself, or the others, changed (the engine may have drifted along)";
        changes(out, title, &self.others)?;
        let title = "Differs by more than 3 %, but was measured only once: perhaps noise";
        changes(out, title, &self.unjudged)?;
        names(out, "Only in the old file", &self.only_old)?;
        names(out, "Only in the new file", &self.only_new)?;
        let (ours, others) = (self.unchanged, self.others_unchanged);
        writeln!(out, "Unchanged: {} of the engine, {} of the others.", figures(ours), others)?;
        writeln!(
            out,
            "A change counts when the repeats' ranges do not overlap and the medians are more than \
             3 % apart.\np99.9 and max are too noisy to compare."
        )
    }
}

fn figures(number: usize) -> String {
    format!("{number} figure{}", if number == 1 { "" } else { "s" })
}

fn names(out: &mut impl Write, title: &str, names: &[String]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}:")?;
    for name in names {
        writeln!(out, "  {name}")?;
    }
    writeln!(out)
}

fn changes(out: &mut impl Write, title: &str, changes: &[Change]) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut table =
        wrapping(["row", "figure", "old", "new", "new/old", "old repeats", "new repeats"]);
    for change in changes {
        let Change { row, figure, old, new, better } = change;
        let direction = if *better { "better" } else { "worse" };
        table.add_row([
            row.clone(),
            (*figure).to_owned(),
            number(figure, old.median),
            number(figure, new.median),
            ratio(old.median, new.median).unwrap_or_else(|| direction.to_owned()),
            range(figure, old),
            range(figure, new),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{title}:\n{table}\n")
}

/// None of anything, or a difference below nothing, has no ratio.
fn ratio(old: f64, new: f64) -> Option<String> {
    (old > 0.0 && new >= 0.0).then(|| units::ratio(new / old))
}

fn range(figure: &str, value: &Value) -> String {
    match value.range {
        Some((min, max)) => format!("{} – {}", number(figure, min), number(figure, max)),
        None => "once".to_owned(),
    }
}

fn number(figure: &str, value: f64) -> String {
    match figure {
        "calls" => units::rate(value),
        "CPU/M calls" => units::cpu_seconds(value),
        "CPU" => units::percent(value),
        _ => units::time(value),
    }
}
