//! The targets on a terminal.

use std::io::{self, Write};

use super::Target;
use crate::table::wrapping;

/// Prints a table of them; nothing if there are none.
///
/// # Errors
/// What writing says.
pub fn print(targets: &[Target], out: &mut impl Write) -> io::Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let mut table = wrapping(["figure", "measured", "target", ""]);
    for Target { figure, measured, target, met } in targets {
        let met = if *met { "met" } else { "missed" };
        table.add_row([figure.as_str(), measured.as_str(), *target, met]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    writeln!(out, "\ntargets")?;
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
