//! What is measured: for each case a list of groups, each of them with the rows that it brings.
//!
//! A run takes the first turn of all groups of a case, then the second of all, and so on, so that
//! a machine that drifts hits all alike. What is compared with each other stands side by side.
//!
//! # Layout
//! - `group`: rows that are measured in one go, turn by turn
//! - `systems`: one turn of the engine, or of what another program runs; and what its row is called
//! - `hot`, `garbage`, `limits`, `awaited`, `parked`, `load`, `throughput`, `growth`, `tensors`, `cost`,
//!   `rivals`: the cases; `garbage` is a part of `hot`

pub(crate) mod awaited;
pub(crate) mod cost;
pub(crate) mod garbage;
pub(crate) mod group;
pub(crate) mod growth;
pub(crate) mod hot;
pub(crate) mod limits;
pub(crate) mod load;
pub(crate) mod parked;
pub(crate) mod rivals;
pub(crate) mod systems;
pub(crate) mod tensors;
pub(crate) mod throughput;

#[cfg(test)]
mod tests;

pub use group::Group;

/// All cases, in the order in which they are measured and reported.
pub const NAMES: [&str; 10] = [
    "hot",
    "limits",
    "awaited",
    "parked",
    "load",
    "throughput",
    "growth",
    "tensors",
    "cost",
    "rivals",
];

/// Those of a quick run.
pub const QUICK: [&str; 5] = ["hot", "limits", "awaited", "throughput", "tensors"];

/// What is measured for a case; in a quick run less, or for a shorter time. Nothing for a case
/// that there is not.
pub fn plan(case: &str, quick: bool) -> Vec<Group> {
    match case {
        "hot" => hot::plan(quick),
        "limits" => limits::plan(quick),
        "awaited" => awaited::plan(quick),
        "parked" => parked::plan(),
        "load" => load::plan(),
        "throughput" => throughput::plan(quick),
        "growth" => growth::plan(),
        "tensors" => tensors::plan(quick),
        "cost" => cost::plan(),
        "rivals" => rivals::plan(),
        _ => Vec::new(),
    }
}
