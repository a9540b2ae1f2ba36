//! `report.html`: the results as one page that needs nothing else, for whoever runs a service.

pub(crate) mod columns;
pub(crate) mod labels;
pub(crate) mod units;

mod bars;
mod cost;
mod curves;
mod groups;
mod lines;
mod page;
mod palette;
mod plot;
mod ranks;
mod scale;
mod tables;

#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;

use page::{Section, escape};

use crate::rows::{Measured, Results, Row};

/// The page. `measured` are the rows whose latencies are drawn as curves; all else comes from
/// `results`. A case that was not measured leaves no trace.
///
/// # Errors
/// None so far: whatever the results hold, there is a page.
pub fn html(results: &Results, measured: &[Measured]) -> anyhow::Result<String> {
    let case =
        |name: &str| -> Vec<&Row> { results.rows.iter().filter(|row| row.case == name).collect() };
    let sections = [
        Section {
            id: "hot",
            title: "Hot: one call after another",
            about: "One submitter, one worker. The same Python function called in-process is what a \
                    call costs without another process; the limits are what this machine needs to \
                    pass a cache line, a futex or a lock from one side to the other.",
            body: charts(ranks::hot(&case("hot"), &case("limits")) + &curves::hot(measured)),
        },
        Section {
            id: "parked",
            title: "Parked: calls with long pauses",
            about: "Everybody sleeps between two calls, so each call pays for waking the other side, \
                    as a bare futex pair at the same rate does.",
            body: charts(curves::parked(measured)),
        },
        Section {
            id: "load",
            title: "Load: calls on a schedule",
            about: "Open loop: calls are sent when they are due, at a share of the capacity, and \
                    measured from then on, so that waiting in the queue counts.",
            body: charts(curves::load(measured)),
        },
        Section {
            id: "rivals",
            title: "Rivals: what else could be used",
            about: "The same Python function behind other ways of calling it, on the same machine in \
                    the same run.",
            body: charts(ranks::rivals(&case("rivals")) + &curves::rivals(measured)),
        },
        Section {
            id: "throughput",
            title: "Throughput: many submitters",
            about: "Threads that each make one call after another; and one thread that has many calls \
                    on their way at once.",
            body: charts(
                lines::throughput(&case("throughput")) + &ranks::pipelined(&case("throughput")),
            ),
        },
        Section {
            id: "growth",
            title: "Growth: more slots, larger payloads, more workers",
            about: "What happens to a call when one thing grows and all else stays as it is.",
            body: charts(lines::growth(&case("growth"))),
        },
        Section {
            id: "tensors",
            title: "Tensors: arrays that are not copied",
            about: "Arrays of float32 that the host writes where the model reads them, beside arrays \
                    that are sent with the task; the model's sum over shared memory, beside its sum \
                    over its own; and arrays that come back, less what the model takes to compute \
                    them (overhead), beside a copy of as many bytes.",
            body: charts(lines::tensors(&case("tensors")) + &ranks::tensors(&case("tensors"))),
        },
        Section {
            id: "cost",
            title: "Cost: CPU time beside latency",
            about: "What each wait policy costs in CPU time of all processes, and what it gives for it.",
            body: charts(cost::policies(results, &case("cost")) + &ranks::starts(&case("cost"))),
        },
        Section {
            id: "rows",
            title: "All rows",
            about: "Percentiles and rates are medians over the repeats; max is the largest of all.",
            body: all_rows(&results.rows),
        },
    ];
    Ok(page::page(results, &sections))
}

fn charts(figures: String) -> String {
    if figures.is_empty() { figures } else { format!("<div class=\"charts\">\n{figures}</div>\n") }
}

fn all_rows(rows: &[Row]) -> String {
    let table = |(case, rows): (&str, Vec<&Row>)| {
        format!("<h3>{}</h3>\n{}", escape(case), tables::of(&rows))
    };
    columns::cases(rows).into_iter().map(table).collect()
}
