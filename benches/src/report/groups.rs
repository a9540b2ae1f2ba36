//! Rows that belong into the same chart, or onto the same line.

use crate::rows::{Figures, Row};

/// Things with the same key, in the order of the first of each.
pub(crate) fn grouped<T: Copy, K: PartialEq>(
    things: &[T],
    key: impl Fn(T) -> K,
) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for thing in things {
        let mine = key(*thing);
        match groups.iter_mut().find(|(key, _)| *key == mine) {
            Some((_, things)) => things.push(*thing),
            None => groups.push((mine, vec![*thing])),
        }
    }
    groups
}

/// What identifies a row, without what came out.
pub(crate) fn identity(row: &Row) -> Row {
    Row { samples: None, figures: Figures::default(), repeats: Vec::new(), ..row.clone() }
}
