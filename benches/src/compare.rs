//! Two results beside each other: what got faster and slower beyond the noise of the repeats.
//!
//! A figure has changed when the repeats of one file all lie on the same side of those of the
//! other, and the medians are more than 3 % apart. p90 lies between p50 and p99 and tells nothing
//! that they do not; p99.9 and the maximum are too noisy to be compared at all.

mod print;
#[cfg(test)]
mod tests;

use crate::report::labels;
use crate::rows::{Figures, Machine, Results, Row};

/// Changes of less than this share do not count, however quiet the repeats were.
const LEAST: f64 = 0.03;

/// The figures that are compared, and their names.
const COMPARED: [(&str, &str); 5] = [
    ("p50_ns", "p50"),
    ("p99_ns", "p99"),
    ("per_second", "calls"),
    ("cpu_s_per_million", "CPU/M calls"),
    ("cpu_percent", "CPU"),
];

/// What is ours; the others are the machine's limits, the same call in-process, and the rivals.
const OURS: [&str; 2] = ["nearcall", "overhead"];

/// How two files differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// What makes the comparison doubtful: another machine, one that was not idle.
    pub warnings: Vec<String>,
    /// Figures of the engine that got better.
    pub faster: Vec<Change>,
    /// Figures of the engine that got worse.
    pub slower: Vec<Change>,
    /// Figures of everything else that changed, either way: when these move, the machine has
    /// drifted, and the engine with it.
    pub others: Vec<Change>,
    /// Figures that differ by more than 3 %, but were measured only once in one of the files: how
    /// noisy they are is not known.
    pub unjudged: Vec<Change>,
    /// Figures of the engine that stayed within the noise.
    pub unchanged: usize,
    /// Figures of everything else that stayed within the noise.
    pub others_unchanged: usize,
    /// Rows, or figures of a row, that only the old file has.
    pub only_old: Vec<String>,
    /// Rows, or figures of a row, that only the new file has.
    pub only_new: Vec<String>,
}

/// One figure of one row in both files.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The row's full name.
    pub row: String,
    /// The figure's name.
    pub figure: &'static str,
    /// As it was.
    pub old: Value,
    /// As it is.
    pub new: Value,
    /// Whether it got better.
    pub better: bool,
}

/// A figure, and the noise of its repeats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// The median of the repeats.
    pub median: f64,
    /// Smallest and largest of the repeats; `None` if there were none, or only one.
    pub range: Option<(f64, f64)>,
}

/// Compares two files, row by row.
pub fn compare(old: &Results, new: &Results) -> Comparison {
    let mut comparison = Comparison { warnings: warnings(old, new), ..Comparison::default() };
    let mut unmatched: Vec<&Row> = new.rows.iter().collect();
    for row in &old.rows {
        match unmatched.iter().position(|other| same(row, other)) {
            Some(index) => comparison.add(row, unmatched.remove(index)),
            None => comparison.only_old.push(labels::full(row)),
        }
    }
    comparison.only_new.extend(unmatched.into_iter().map(labels::full));
    comparison
}

impl Comparison {
    /// Takes in a row that both files have.
    fn add(&mut self, old: &Row, new: &Row) {
        let ours = OURS.contains(&old.system.as_str());
        for (key, figure) in COMPARED {
            let (before, after) = match (value(old, key), value(new, key)) {
                (Some(before), Some(after)) => (before, after),
                (None, None) => continue,
                (before, _) => {
                    let only =
                        if before.is_some() { &mut self.only_old } else { &mut self.only_new };
                    only.push(format!("{}: {figure}", labels::full(old)));
                    continue;
                }
            };
            let smaller_is_better = old.figures.all().iter().any(|f| f.0 == key && f.2);
            let better = (after.median < before.median) == smaller_is_better;
            let change = Change { row: labels::full(old), figure, old: before, new: after, better };
            match change.counts() {
                Some(true) if !ours => self.others.push(change),
                Some(true) if better => self.faster.push(change),
                Some(true) => self.slower.push(change),
                None => self.unjudged.push(change),
                Some(false) if ours => self.unchanged += 1,
                Some(false) => self.others_unchanged += 1,
            }
        }
    }
}

impl Change {
    /// Whether it is more than noise; `None` if that cannot be told.
    fn counts(&self) -> Option<bool> {
        let (old, new) = (self.old.median, self.new.median);
        if (new - old).abs() <= LEAST * old.abs() {
            return Some(false);
        }
        let ((old_min, old_max), (new_min, new_max)) = self.old.range.zip(self.new.range)?;
        Some(new_min > old_max || new_max < old_min)
    }
}

/// Whether everything that identifies a row is the same in both.
fn same(one: &Row, other: &Row) -> bool {
    one.case == other.case && labels::marks(one) == labels::marks(other)
}

fn value(row: &Row, key: &str) -> Option<Value> {
    let of = |figures: &Figures| figures.all().into_iter().find(|f| f.0 == key).and_then(|f| f.1);
    let repeats: Vec<f64> = row.repeats.iter().filter_map(of).collect();
    let min = repeats.iter().copied().min_by(f64::total_cmp);
    let max = repeats.iter().copied().max_by(f64::total_cmp);
    let range = min.zip(max).filter(|_| repeats.len() > 1);
    Some(Value { median: of(&row.figures)?, range })
}

fn warnings(old: &Results, new: &Results) -> Vec<String> {
    let (before, after) = (&old.machine, &new.machine);
    let told = |of: fn(&Machine) -> String| (of(before), of(after));
    let facts = [
        ("CPUs", told(|m| m.cpu.clone())),
        ("numbers of CPUs", told(|m| m.cpus.to_string())),
        ("kernels", told(|m| m.kernel.clone())),
        ("Pythons", told(|m| m.python.clone())),
    ];
    let differ = facts.into_iter().filter(|(_, (before, after))| before != after);
    let mut warnings: Vec<String> =
        differ.map(|(what, (b, a))| format!("The {what} differ: {b} and {a}.")).collect();
    for (name, busy) in [("old", before.busy_percent), ("new", after.busy_percent)] {
        if busy > Machine::IDLE_PERCENT {
            warnings.push(format!(
                "The machine was not idle when the {name} run began: {busy:.0} % of its CPUs were busy."
            ));
        }
    }
    warnings
}
