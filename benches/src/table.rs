//! The results on a terminal: a table for each case.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::report::columns::{self, Column};
use crate::report::labels::Mark;
use crate::report::units;
use crate::rows::{Machine, Results};

/// Columns of the terminal.
pub(crate) const WIDTH: usize = 120;

/// Nothing but a line below the heads.
pub(crate) const PLAIN: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// What a table that is too wide goes without, in this order. The file has it all.
const LESS_WANTED: [&str; 4] = ["samples", "p90", "max", "p99.9"];

/// Prints the machine, and a table for each case.
///
/// # Errors
/// What writing says.
pub fn print(results: &Results, out: &mut impl Write) -> io::Result<()> {
    let Machine { cpu, cpus, kernel, python, unix_time, busy_percent, steal_percent } =
        &results.machine;
    writeln!(out, "{cpu}, {cpus} CPUs, Linux {kernel}, Python {python}")?;
    let when = units::utc(*unix_time);
    writeln!(
        out,
        "commit {}, {when}, {busy_percent:.0} % of the CPUs busy before, {} of the CPUs' time stolen",
        results.commit,
        units::percent(*steal_percent)
    )?;
    for (case, rows) in columns::cases(&results.rows) {
        let mut columns = columns::of(&rows);
        let common = take_common(&mut columns, rows.len());
        let (table, left_out) = fit(columns);
        writeln!(
            out,
            "\n{case}{}",
            if common.is_empty() { common } else { format!(": {common}") }
        )?;
        writeln!(out, "{table}")?;
        if !left_out.is_empty() {
            writeln!(out, "(also in the file: {})", left_out.join(", "))?;
        }
    }
    Ok(())
}

/// What is the same in all rows of a table goes above it, and leaves room for the rest.
fn take_common(columns: &mut Vec<Column>, rows: usize) -> String {
    if rows < 2 {
        return String::new();
    }
    let mut common = Vec::new();
    columns.retain(|column| {
        let Some(first) = column.cells.first().filter(|cell| !cell.is_empty()) else { return true };
        let same = column.head != "system"
            && column.names
            && column.cells.iter().all(|cell| cell == first);
        if same {
            common.push(Mark { name: column.head, value: first.clone() }.phrase());
        }
        !same
    });
    common.join(", ")
}

/// The table, and what it had to go without.
fn fit(mut columns: Vec<Column>) -> (String, Vec<&'static str>) {
    let mut left_out = Vec::new();
    let mut spare = LESS_WANTED.iter();
    loop {
        let table = draw(&columns);
        let width = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let next = spare.find(|head| columns.iter().any(|column| column.head == **head));
        match next {
            Some(head) if width > WIDTH => {
                columns.retain(|column| column.head != *head);
                left_out.push(*head);
            }
            _ => return (table, left_out),
        }
    }
}

/// An empty table whose long cells take several lines.
pub(crate) fn wrapping<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table
        .load_style(PLAIN)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(WIDTH).unwrap_or(u16::MAX))
        .set_header(head);
    table
}

fn draw(columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(PLAIN).set_header(columns.iter().map(|c| c.head));
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        table.add_row(columns.iter().map(|column| column.cells[row].as_str()));
    }
    for (column, drawn) in columns.iter().zip(table.column_iter_mut()) {
        drawn.set_padding((0, 1));
        if column.numeric {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic;

    #[test]
    fn every_case_fits_the_terminal() {
        let (results, _) = synthetic::results();
        let mut text = Vec::new();
        print(&results, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        // To be looked at with `cargo test -p nearcall-bench --lib table -- --nocapture`.
        println!("{text}");
        for (case, rows) in columns::cases(&results.rows) {
            assert!(text.contains(&format!("\n{case}")), "{case} of {} rows", rows.len());
        }
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn what_is_the_same_in_all_rows_stands_above() {
        let (mut results, _) = synthetic::results();
        results.rows.retain(|row| row.case == "growth" && row.workload.as_deref() == Some("noop"));
        let mut text = Vec::new();
        print(&results, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let head = text.lines().find(|line| line.starts_with("growth")).unwrap();
        assert!(head.contains("1 submitter"), "{head}");
    }

    #[test]
    fn no_rows_are_no_tables() {
        let (mut results, _) = synthetic::results();
        results.rows.clear();
        let mut text = Vec::new();
        print(&results, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap().lines().count(), 2);
    }
}
