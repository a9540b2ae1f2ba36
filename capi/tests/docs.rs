//! What the pages say of C and C++.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The blocks of a page that are in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    page.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_programs_on_the_pages_are_the_examples() {
    let (c, cpp) = (read("../docs/host-c.md"), read("../docs/host-cpp.md"));
    assert_eq!(blocks(&c, "c"), [read("examples/call.c")]);
    assert_eq!(blocks(&cpp, "cpp"), [read("examples/call.cpp"), read("examples/events.cpp")]);
}

#[test]
fn the_flags_on_the_page_are_those_of_the_header() {
    let (page, header) = (read("../docs/host-c.md"), read("include/nearcall.h"));
    let mut flags = 0;
    for line in header.lines().filter(|line| line.trim().starts_with("NEARCALL_FLAG_")) {
        let (name, number) = line.trim().trim_end_matches(',').split_once(" = ").unwrap();
        assert!(page.contains(&format!("| {number} | `{name}` |")), "{name} = {number}");
        flags += 1;
    }
    assert_eq!(flags, 15);
}

#[test]
fn what_the_pages_name_is_there() {
    let headers = read("include/nearcall.h") + &read("include/nearcall.hpp");
    for page in ["../docs/host-c.md", "../docs/host-cpp.md"] {
        let page = read(page);
        for word in page.split('`').filter(|word| {
            let word = word.to_ascii_lowercase();
            word.starts_with("nearcall_") && word.chars().all(|c| c == '_' || c.is_alphanumeric())
        }) {
            let is_variable = ["NEARCALL_WORKER", "NEARCALL_MODEL"].contains(&word);
            assert!(is_variable || headers.contains(word), "{word}");
        }
    }
}
