//! The page around the charts: its head, its style, its sections.

use super::units;
use crate::rows::{Machine, Results, Row};

/// Colours and sizes.
const STYLE: &str = include_str!("page.css");

/// A part of the page; left out if its body is empty.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What is seen, in a sentence or two.
    pub(crate) about: &'static str,
    pub(crate) body: String,
}

/// The whole page.
pub(crate) fn page(results: &Results, sections: &[Section]) -> String {
    let sections: Vec<_> = sections.iter().filter(|section| !section.body.is_empty()).collect();
    let link = |section: &&Section| format!("<a href=\"#{0}\">{0}</a> ", section.id);
    let links: String = sections.iter().map(link).collect();
    let part = |section: &&Section| {
        let Section { id, title, about, body } = section;
        format!("<section id=\"{id}\"><h2>{title}</h2><p>{about}</p>\n{body}</section>\n")
    };
    let parts: String = sections.iter().map(part).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>nearcall: benchmark</title>\n<style>\n{STYLE}</style></head>\n<body>\n\
         <header><h1>nearcall: benchmark</h1>\n{}{}<nav>{links}</nav></header>\n<main>\n{parts}</main>\n\
         </body></html>\n",
        headline(results),
        machine(results)
    )
}

/// Text from the outside.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// What it all comes down to.
fn headline(results: &Results) -> String {
    let line = results.rows.iter().find(|row| row.case == "limits" && row.system == "cache-line");
    let line = line.and_then(|row| row.figures.p50_ns).filter(|ns| *ns > 0.0);
    let mut tiles: String = ["noop", "big_model"]
        .into_iter()
        .filter_map(|workload| overhead(results, workload, line))
        .collect();
    if let Some(ns) = line {
        let about = "one cache line to another process and back, both spinning: \
                     no call between two processes can be faster";
        tiles += &tile("cache-line round trip", ns, "", about);
    }
    if tiles.is_empty() { tiles } else { format!("<div class=\"tiles\">{tiles}</div>\n") }
}

/// What the engine adds to a call: under the policy that a service gets unless it asks for another.
fn overhead(results: &Results, workload: &str, line: Option<f64>) -> Option<String> {
    let hot = |system: &str, row: &&Row| {
        row.case == "hot"
            && row.system == system
            && row.workload.as_deref() == Some(workload)
            && row.variant.is_none()
    };
    let rows: Vec<&Row> = results.rows.iter().filter(|row| hot("overhead", row)).collect();
    let adaptive = rows.iter().find(|row| row.policy.as_deref() == Some("adaptive"));
    let row = adaptive.or(rows.first())?;
    let p50 = row.figures.p50_ns?;
    let p99 = row.figures.p99_ns.map(|p99| format!(", {} at p99", units::time(p99)));
    let mut about = "more than the same Python function called in-process".to_owned();
    let in_process = results.rows.iter().find(|row| hot("in-process", row));
    if let Some(ns) = in_process.and_then(|row| row.figures.p50_ns) {
        about += &format!(" ({})", units::time(ns));
    }
    if let Some(line) = line {
        about += &format!("; {} cache-line round trips", units::ratio(p50 / line));
    }
    let title = format!("overhead of a call, {workload}");
    Some(tile(&title, p50, &p99.unwrap_or_default(), &about))
}

fn tile(title: &str, ns: f64, more: &str, about: &str) -> String {
    let (title, value, more, about) = (escape(title), units::time(ns), escape(more), escape(about));
    format!(
        "<div class=\"tile\"><h3>{title}</h3><p class=\"value\">{value}<small> at p50{more}</small></p>\
         <p>{about}</p></div>\n"
    )
}

/// Where, what and when.
fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let busy = format!("{:.0} % of the CPUs busy before it began", machine.busy_percent);
    let busy = if machine.busy_percent > Machine::IDLE_PERCENT {
        format!("<strong class=\"warning\">{busy}: the machine was not idle</strong>")
    } else {
        busy
    };
    format!(
        "<p class=\"machine\">{}, {} CPUs · Linux {} · Python {} · commit <code>{}</code> · {} · {busy}</p>\n",
        escape(&machine.cpu),
        machine.cpus,
        escape(&machine.kernel),
        escape(&machine.python),
        escape(&results.commit),
        units::utc(machine.unix_time)
    )
}
