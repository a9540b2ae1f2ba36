//! What a row is called: by all that identifies it, or by what tells it from its neighbours.

use super::units;
use crate::rows::Row;

/// One of the things that identify a row within its case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The column's head.
    pub(crate) name: &'static str,
    /// What stands in the column.
    pub(crate) value: String,
}

impl Mark {
    /// As it is said outside of a table.
    pub(crate) fn phrase(&self) -> String {
        let value = &self.value;
        let several = if value == "1" { "" } else { "s" };
        match self.name {
            "submitters" => format!("{value} submitter{several}"),
            "workers" => format!("{value} worker{several}"),
            "slots" => format!("{value} slot{several}"),
            "pipelined" => format!("{value} pipelined"),
            "period" => format!("each {value}"),
            "load" => format!("{value} load"),
            _ => value.clone(),
        }
    }
}

/// All that identifies a row within its case, in the order of the columns.
pub(crate) fn marks(row: &Row) -> Vec<Mark> {
    let number = |value: Option<usize>| value.map(|value| units::count(value as u64));
    let all = [
        ("system", Some(row.system.clone())),
        ("workload", row.workload.clone()),
        ("policy", row.policy.clone()),
        ("submitters", number(row.submitters)),
        ("workers", number(row.workers)),
        ("slots", number(row.slots)),
        ("payload", row.payload_bytes.map(units::bytes)),
        ("pipelined", number(row.pipelined)),
        ("period", row.period_ms.map(units::period)),
        ("load", row.load_percent.map(|percent| format!("{percent} %"))),
        ("variant", row.variant.clone()),
    ];
    all.into_iter().filter_map(|(name, value)| Some(Mark { name, value: value? })).collect()
}

/// A row's full name: its case and all its marks.
pub(crate) fn full(row: &Row) -> String {
    let phrases: Vec<_> = marks(row).iter().map(Mark::phrase).collect();
    format!("{}: {}", row.case, phrases.join(", "))
}

/// A name for each row of a chart: its system, and what tells the rows of the chart apart. One
/// submitter is what is expected, and not said.
pub(crate) fn distinct(rows: &[&Row]) -> Vec<String> {
    let all: Vec<_> = rows.iter().map(|row| marks(row)).collect();
    let name = |mine: &[Mark], row: &Row| {
        let said = mine.iter().filter(|mark| {
            let expected = mark.name == "submitters" && mark.value == "1";
            mark.name == "system" || (!expected && tells_apart(mark, row, rows, &all))
        });
        said.map(Mark::phrase).collect::<Vec<_>>().join(", ")
    };
    rows.iter().zip(&all).map(|(row, mine)| name(mine, row)).collect()
}

/// Whether some row has another value, or one of the same system has none.
fn tells_apart(one: &Mark, row: &Row, rows: &[&Row], all: &[Vec<Mark>]) -> bool {
    rows.iter().zip(all).any(|(other, marks)| {
        match marks.iter().find(|other| other.name == one.name) {
            Some(other) => other.value != one.value,
            None => other.system == row.system,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(system: &str, policy: Option<&str>, submitters: usize) -> Row {
        Row {
            case: "hot".to_owned(),
            system: system.to_owned(),
            policy: policy.map(str::to_owned),
            submitters: Some(submitters),
            slots: policy.map(|_| 64),
            ..Row::default()
        }
    }

    #[test]
    fn a_full_name_tells_everything() {
        assert_eq!(
            full(&row("nearcall", Some("spin"), 1)),
            "hot: nearcall, spin, 1 submitter, 64 slots"
        );
    }

    #[test]
    fn a_chart_names_what_differs_and_nothing_else() {
        let (one, other) = (row("nearcall", Some("spin"), 4), row("futex", None, 4));
        assert_eq!(distinct(&[&one, &other]), ["nearcall", "futex"]);
        let third = row("nearcall", Some("park"), 4);
        assert_eq!(
            distinct(&[&one, &other, &third]),
            ["nearcall, spin", "futex", "nearcall, park"]
        );
        let (one, other) = (row("nearcall", None, 1), row("in-process", None, 16));
        assert_eq!(distinct(&[&one, &other]), ["nearcall", "in-process, 16 submitters"]);
    }
}
