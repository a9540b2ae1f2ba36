//! `docs/shm-layout.md` and the code have the same numbers: each table of the page against what
//! the compiler made of the types.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

/// By table: its rows, each the numbers that it starts with and the name after them.
type Tables = BTreeMap<String, Vec<(Vec<u64>, String)>>;

const PAGE: &str = include_str!("../docs/shm-layout.md");

/// A number as the page writes it.
fn number(cell: &str) -> Option<u64> {
    match cell.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => cell.parse().ok(),
    }
}

/// The tables under headings of the third level, without their heads: rows that start with a
/// number, up to the first `name` in backquotes.
fn tables_of(page: &str) -> Tables {
    let mut tables = Tables::new();
    let mut heading = None;
    for line in page.lines() {
        if line.starts_with('#') {
            heading = line.strip_prefix("### ");
        }
        let (Some(heading), Some(row)) = (heading, line.strip_prefix('|')) else { continue };
        let mut cells = row.split('|').map(str::trim).peekable();
        let mut numbers = Vec::new();
        while let Some(number) = cells.peek().and_then(|cell| number(cell)) {
            numbers.push(number);
            cells.next();
        }
        if numbers.is_empty() {
            continue;
        }
        let name = cells.next().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        let name = name.unwrap_or_else(|| panic!("{heading}: no name in {line:?}"));
        tables.entry(heading.to_owned()).or_default().push((numbers, name.to_owned()));
    }
    tables
}

#[test]
fn the_page_has_the_numbers_of_the_code_and_no_others() {
    let mut code = Tables::new();
    for (table, numbers, name) in nearcall::peer::layout_tables() {
        code.entry(table.to_owned()).or_default().push((numbers, name));
    }
    let page = tables_of(PAGE);
    let names = |tables: &Tables| tables.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&page), names(&code), "the tables of docs/shm-layout.md and of the code");
    for (table, rows) in &code {
        assert_eq!(page.get(table), Some(rows), "docs/shm-layout.md (left) at {table:?}");
    }
}

#[test]
fn fields_fill_their_types_without_gap_or_overlap() {
    let mut fields: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    let mut types = BTreeMap::new();
    for (table, numbers, name) in nearcall::peer::layout_tables() {
        match (table, numbers.as_slice()) {
            ("Types", [size, _]) => drop(types.insert(name, *size)),
            (_, [at, size]) => fields.entry(table).or_default().push((*at, *size)),
            _ => {}
        }
    }
    assert_eq!(types.len(), 7);
    for (name, size) in types {
        let end = fields[name.as_str()].iter().fold(0, |end, (at, size)| {
            assert_eq!(*at, end, "{name}");
            end + size
        });
        assert_eq!(end, size, "{name}");
    }
}

#[test]
fn the_version_that_a_worker_tells_is_the_pages() {
    let constants = &tables_of(PAGE)["Constants"];
    let version = vec![u64::from(nearcall::peer::LAYOUT_VERSION)];
    assert!(constants.contains(&(version, "LAYOUT_VERSION".to_owned())));
}
