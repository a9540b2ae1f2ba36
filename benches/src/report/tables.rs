//! Rows as an HTML table.

use super::columns::{self, Column};
use super::labels;
use super::page::escape;
use crate::rows::Row;

/// All that these rows have.
pub(crate) fn of(rows: &[&Row]) -> String {
    html(&columns::of(rows))
}

/// A name for each row, and some of their figures.
pub(crate) fn some(rows: &[&Row], heads: &[&str]) -> String {
    let cells = labels::distinct(rows);
    let mut columns = vec![Column { head: "", numeric: false, names: true, cells }];
    columns.extend(columns::of(rows).into_iter().filter(|column| heads.contains(&column.head)));
    html(&columns)
}

fn html(columns: &[Column]) -> String {
    let class = |column: &Column| if column.numeric { " class=\"number\"" } else { "" };
    let head = |column: &Column| format!("<th{}>{}</th>", class(column), column.head);
    let heads: String = columns.iter().map(head).collect();
    let row = |row: usize| {
        let cell =
            |column: &Column| format!("<td{}>{}</td>", class(column), escape(&column.cells[row]));
        format!("<tr>{}</tr>\n", columns.iter().map(cell).collect::<String>())
    };
    let rows: String =
        (0..columns.first().map_or(0, |column| column.cells.len())).map(row).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr>{heads}</tr></thead>\n\
         <tbody>{rows}</tbody></table></div>\n"
    )
}
