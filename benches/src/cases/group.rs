//! Rows that are measured in one go.

use anyhow::ensure;

use super::systems::{Asked, Calls, engine_row, engine_turn};
use crate::engine::Subject;
use crate::ground::{Ground, Program};
use crate::measure::{Latencies, Span, Turn};
use crate::rows::{Figures, Measured, Row};

/// What one turn brings for one row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    /// The figures of this repeat.
    pub figures: Figures,
    /// The latencies behind them, if there are any.
    pub latencies: Option<Latencies>,
}

impl Taken {
    /// Of a turn.
    pub(crate) fn of(turn: Turn) -> Self {
        Self { figures: Figures::of(&turn), latencies: Some(turn.latencies) }
    }
}

impl From<Figures> for Taken {
    fn from(figures: Figures) -> Self {
        Self { figures, latencies: None }
    }
}

/// One of a group's turns, with its number: what it brings for each row, in their order; `None`
/// for what cannot be had on this machine.
pub(crate) type Take = dyn Fn(&mut Ground, usize) -> anyhow::Result<Vec<Option<Taken>>>;

/// How long, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) span: Span,
    pub(crate) repeats: usize,
}

/// So many seconds, so many times.
pub(crate) const fn effort(measured: f64, repeats: usize) -> Effort {
    Effort { span: Span { warm_up: 0.05, measured }, repeats }
}

/// Rows that are measured in one go.
pub struct Group {
    /// What identifies them; without figures.
    pub rows: Vec<Row>,
    /// How many turns it takes.
    pub repeats: usize,
    /// The program that it needs.
    pub needs: Option<Program>,
    take: Box<Take>,
    taken: Vec<Vec<Option<Taken>>>,
}

impl Group {
    /// These rows, measured so.
    pub(crate) fn new(
        rows: Vec<Row>,
        repeats: usize,
        needs: Option<Program>,
        take: impl Fn(&mut Ground, usize) -> anyhow::Result<Vec<Option<Taken>>> + 'static,
    ) -> Self {
        Self { rows, repeats, needs, take: Box::new(take), taken: Vec::new() }
    }

    /// One row: an engine that is started for each turn.
    pub(crate) fn of_engine(case: &str, subject: Subject, calls: Calls, effort: Effort) -> Self {
        let row = engine_row(case, subject, calls);
        Self::new(vec![row], effort.repeats, None, move |ground, _| {
            Ok(vec![engine_turn(ground, subject, calls, effort.span)?.map(Taken::of)])
        })
    }

    /// One row: a system that another program runs.
    pub(crate) fn of_other(case: &str, program: Program, asked: Asked, effort: Effort) -> Self {
        let row = asked.row(case);
        Self::new(vec![row], effort.repeats, Some(program), move |ground, _| {
            Ok(vec![asked.turn(ground, program, effort.span)?.map(Taken::of)])
        })
    }

    /// Takes the turn with this number, if the group has so many, and if the first one has not
    /// shown that nothing of it can be had.
    ///
    /// # Errors
    /// What went wrong, a wrong answer included.
    pub fn take(&mut self, ground: &mut Ground, turn: usize) -> anyhow::Result<()> {
        let in_vain = self.taken.iter().any(|turn| turn.iter().all(Option::is_none));
        if turn >= self.repeats || in_vain {
            return Ok(());
        }
        let taken = (self.take)(ground, turn)?;
        ensure!(taken.len() == self.rows.len(), "a turn that has not brought all of its rows");
        self.taken.push(taken);
        Ok(())
    }

    /// What all turns have brought. Rows that nothing was brought for are left out.
    ///
    /// # Errors
    /// None.
    pub fn measured(self) -> anyhow::Result<Vec<Measured>> {
        let Self { rows, taken, .. } = self;
        let mut measured = Vec::new();
        for (index, row) in rows.into_iter().enumerate() {
            let turns: Vec<&Taken> = taken.iter().filter_map(|turn| turn[index].as_ref()).collect();
            if !turns.is_empty() {
                measured.push(merged(row, &turns)?);
            }
        }
        Ok(measured)
    }
}

fn merged(row: Row, turns: &[&Taken]) -> anyhow::Result<Measured> {
    let repeats: Vec<Figures> = turns.iter().map(|turn| turn.figures).collect();
    let mut latencies: Option<Latencies> = None;
    for more in turns.iter().filter_map(|turn| turn.latencies.as_ref()) {
        match &mut latencies {
            Some(all) => all.add(more)?,
            None => latencies = Some(more.clone()),
        }
    }
    let samples = latencies.as_ref().map(Latencies::count);
    let row = Row { samples, figures: Figures::median(&repeats), repeats, ..row };
    Ok(Measured { row, latencies })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use anyhow::bail;

    use super::super::systems::row;
    use super::*;
    use crate::ground::Places;

    fn ground() -> Ground {
        let nowhere = || "/nowhere".into();
        let places = Places {
            worker: None,
            yardstick: nowhere(),
            rivals: nowhere(),
            python: nowhere(),
            rivals_python: nowhere(),
            numpy_python: nowhere(),
        };
        Ground::prepare(places, Box::new(|| false)).unwrap()
    }

    fn turn(ns: u64) -> Turn {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::from_nanos(ns));
        Turn { latencies, seconds: 0.5, cpu_seconds: None }
    }

    #[test]
    fn a_row_has_the_medians_of_its_turns_and_the_latencies_of_all() {
        let rows = vec![row("hot", "here", None), row("hot", "not here", None)];
        let mut group = Group::new(rows, 3, None, |_, number| {
            Ok(vec![Some(Taken::of(turn([500, 100, 300][number]))), None])
        });
        let mut ground = ground();
        // One more than it takes.
        (0..4).for_each(|number| group.take(&mut ground, number).unwrap());
        let measured = group.measured().unwrap();
        let [Measured { row, latencies }] = measured.as_slice() else { panic!("{measured:?}") };
        assert_eq!((row.system.as_str(), row.samples), ("here", Some(3)));
        assert_eq!((row.figures.p50_ns, row.figures.max_ns), (Some(300.0), Some(500.0)));
        let p50s: Vec<_> = row.repeats.iter().map(|figures| figures.p50_ns).collect();
        assert_eq!(p50s, [Some(500.0), Some(100.0), Some(300.0)]);
        assert_eq!(latencies.as_ref().unwrap().count(), 3);
    }

    #[test]
    fn what_cannot_be_had_is_asked_for_once_and_brings_no_row() {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        let mut group = Group::new(vec![row("hot", "not here", None)], 3, None, move |_, _| {
            count.set(count.get() + 1);
            Ok(vec![None])
        });
        let mut ground = ground();
        (0..3).for_each(|number| group.take(&mut ground, number).unwrap());
        assert_eq!((asked.get(), group.measured().unwrap().len()), (1, 0));
    }

    #[test]
    fn a_turn_that_fails_fails_the_group() {
        let rows = vec![row("hot", "wrong", None)];
        let mut group = Group::new(rows, 1, None, |_, _| bail!("a wrong answer"));
        assert_eq!(group.take(&mut ground(), 0).unwrap_err().to_string(), "a wrong answer");
    }
}
