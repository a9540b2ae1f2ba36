//! The columns of a case: what identifies its rows, then their figures. Only those that some row
//! has.

use super::groups::grouped;
use super::labels;
use super::units;
use crate::rows::Row;

/// A column and its cells, one for each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// The unit is in the cells.
    pub(crate) head: &'static str,
    /// Whether it is read by its right end.
    pub(crate) numeric: bool,
    /// Whether it names the rows.
    pub(crate) names: bool,
    /// Empty where it does not apply.
    pub(crate) cells: Vec<String>,
}

/// What a row has of a column, and its head.
type Cell = (&'static str, Option<String>);

/// Those that name the rows.
const NAMES: [&str; 11] = [
    "system",
    "workload",
    "policy",
    "submitters",
    "workers",
    "slots",
    "payload",
    "pipelined",
    "period",
    "load",
    "variant",
];
const TEXTS: [&str; 4] = ["system", "workload", "policy", "variant"];

/// The cases, in the order of their first rows.
pub(crate) fn cases(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    let rows: Vec<&Row> = rows.iter().collect();
    grouped(&rows, |row| row.case.as_str())
}

/// The columns of these rows.
pub(crate) fn of(rows: &[&Row]) -> Vec<Column> {
    let by_row: Vec<Vec<Cell>> = rows.iter().map(|row| cells(row)).collect();
    let mut columns: Vec<Column> = Vec::new();
    for index in 0..by_row.first().map_or(0, Vec::len) {
        let cells: Vec<_> = by_row.iter().map(|row| &row[index]).collect();
        let Some((head, _)) = cells.iter().find(|(_, cell)| cell.is_some()) else { continue };
        columns.push(Column {
            head,
            names: NAMES.contains(head),
            numeric: !TEXTS.contains(head),
            cells: cells.iter().map(|(_, cell)| cell.clone().unwrap_or_default()).collect(),
        });
    }
    columns
}

/// Every cell that a row can have, in the order of the columns.
fn cells(row: &Row) -> Vec<Cell> {
    let marks = labels::marks(row);
    let named = |name: &str| marks.iter().find(|t| t.name == name).map(|t| t.value.clone());
    let figures = &row.figures;
    let mut cells: Vec<Cell> = NAMES.iter().map(|name| (*name, named(name))).collect();
    cells.extend([
        ("samples", row.samples.map(units::count)),
        ("p50", figures.p50_ns.map(units::time)),
        ("p90", figures.p90_ns.map(units::time)),
        ("p99", figures.p99_ns.map(units::time)),
        ("p99.9", figures.p999_ns.map(units::time)),
        ("max", figures.max_ns.map(units::time)),
        ("calls", figures.per_second.map(units::rate)),
        ("speed", figures.bytes_per_second.map(units::speed)),
        ("CPU/M calls", figures.cpu_s_per_million.map(units::cpu_seconds)),
        ("CPU", figures.cpu_percent.map(units::percent)),
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Figures;

    #[test]
    fn a_column_is_there_when_some_row_has_it() {
        let figures = Figures { p50_ns: Some(1_120.0), ..Figures::default() };
        let one = Row { system: "a".to_owned(), workers: Some(2), ..Row::default() };
        let other = Row { system: "b".to_owned(), figures, ..Row::default() };
        let columns = of(&[&one, &other]);
        let heads: Vec<_> = columns.iter().map(|column| column.head).collect();
        assert_eq!(heads, ["system", "workers", "p50"]);
        assert_eq!(columns[2].cells, ["", "1.12 µs"]);
        assert!(of(&[]).is_empty());
    }
}
