//! Who is drawn in which colour: the same in every chart.
//!
//! The colours are those of Okabe and Ito, which can be told apart by the colour-blind, as CSS
//! classes `c1` to `c9` (`page.css`), so that each can have one shade on white and one on black.
//! The warm ones are ours.

use crate::rows::Row;

/// Lines of the same colour in a chart are told apart by these.
const DASHES: [&str; 5] = ["", "7 4", "2 3", "10 3 2 3", "1 5"];

/// How a line, a bar or a point is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Style {
    /// The class that sets the colour.
    pub(crate) class: String,
    /// As in `stroke-dasharray`.
    pub(crate) dash: &'static str,
}

/// Ours stand out.
pub(crate) fn is_ours(row: &Row) -> bool {
    row.system == "nearcall"
}

/// The class with the colour of a row's system.
pub(crate) fn class(row: &Row) -> &'static str {
    let starts = |name: &str| row.system.starts_with(name);
    let policy = row.policy.as_deref();
    match row.system.as_str() {
        "nearcall" if policy == Some("spin") => "c2",
        "nearcall" if policy == Some("park") => "c3",
        "nearcall" => "c1",
        // Ours, but not all of it.
        "overhead" if policy == Some("spin") => "c2 part",
        "overhead" if policy == Some("park") => "c3 part",
        "overhead" => "c1 part",
        _ if starts("in-process") => "c4",
        _ if starts("futex") => "c5",
        _ if starts("multiprocessing") || starts("ProcessPool") => "c6",
        _ if starts("unix socket") || starts("zeromq") => "c7",
        _ if starts("iceoryx2") => "c9",
        _ => "c8",
    }
}

/// A style for each row of a chart.
pub(crate) fn styles(rows: &[&Row]) -> Vec<Style> {
    let mut used: Vec<&str> = Vec::new();
    let mut style = |row: &&Row| {
        let class = class(row);
        let before = used.iter().filter(|other| **other == class).count();
        used.push(class);
        Style { class: class.to_owned(), dash: DASHES[before % DASHES.len()] }
    };
    rows.iter().map(&mut style).collect()
}

/// Shades from light to strong, for the same system at growing load: classes `s1` to `s5`.
pub(crate) fn shades(number: usize) -> Vec<Style> {
    let shade = |index: usize| {
        let strength = 5 - (number - 1 - index).min(4);
        Style {
            class: format!("s{strength}"),
            dash: DASHES[(number - 1 - index) / 5 % DASHES.len()],
        }
    };
    (0..number).map(shade).collect()
}
