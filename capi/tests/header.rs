//! The header says what the code says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;

use cbindgen::{Builder, Config, DocumentationStyle, Language, RenameRule, Style};

/// The order of the files is that of the header.
const SOURCES: [&str; 11] = [
    "codes",
    "input",
    "error",
    "builder",
    "value",
    "task",
    "view",
    "answer",
    "engine",
    "completions",
    "reserved",
];

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        include_guard: Some("NEARCALL_H".to_owned()),
        header: Some(
            fs::read_to_string(root.join("src/preamble.h")).unwrap().trim_end().to_owned(),
        ),
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(str::to_owned).to_vec(),
        usize_is_size_t: true,
        style: Style::Both,
        documentation_style: DocumentationStyle::C99,
        line_length: 110,
        ..Config::default()
    };
    config.enumeration.rename_variants = RenameRule::QualifiedScreamingSnakeCase;
    for (rust, c) in [
        ("Answer", "answer"),
        ("Builder", "builder"),
        ("Code", "code"),
        ("Dtype", "dtype"),
        ("Engine", "engine"),
        ("Error", "error"),
        ("Flag", "flag"),
        ("Health", "health_report"),
        ("Kind", "kind"),
        ("Reserved", "reserved"),
        ("Spec", "spec"),
        ("Start", "start_method"),
        ("Task", "task"),
        ("Tensor", "tensor"),
        ("Text", "text"),
        ("Type", "type"),
        ("Value", "value"),
        ("View", "view"),
        ("Wait", "wait_policy"),
    ] {
        config.export.rename.insert(rust.to_owned(), format!("nearcall_{c}"));
    }
    // Their numbers are used, not their types.
    config.export.include = ["Code", "Flag", "Start", "Type", "Wait"].map(str::to_owned).to_vec();
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root.join(format!("src/{source}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    tidy(&String::from_utf8(header).unwrap())
}

/// What Rust's readers need and C's do not.
fn tidy(header: &str) -> String {
    // Each unsafe function says once more what the top of the header says.
    let safety = [
        "//\n// # Safety\n// The pointer is as the top of this header says.\n",
        "//\n// # Safety\n// The pointers are as the top of this header says.\n",
    ];
    let mut text = header.to_owned();
    for safety in safety {
        text = text.replace(safety, "");
    }
    assert!(!text.contains("# Safety"), "a rule that the top of the header does not have");
    text.replace('`', "")
}

#[test]
fn the_header_is_the_one_that_the_code_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/nearcall.h");
    let made = generate();
    if std::env::var_os("NEARCALL_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "include/nearcall.h is not what the code says. Please type: \
         NEARCALL_BLESS=1 cargo test -p nearcall-c --test header"
    );
}

#[test]
fn every_function_is_called_with_null_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let test = fs::read_to_string(root.join("tests/programs/null.c")).unwrap();
    let header = fs::read_to_string(root.join("include/nearcall.h")).unwrap();
    let mut functions = 0;
    for line in header.lines().filter(|line| !line.starts_with("//") && line.contains('(')) {
        let Some((before, arguments)) = line.split_once('(') else { continue };
        let name = before.rsplit([' ', '*']).next().unwrap_or_default();
        let takes_no_pointer = line.ends_with(");") && !arguments.contains('*');
        if !name.starts_with("nearcall_") || takes_no_pointer {
            continue;
        }
        functions += 1;
        assert!(
            test.contains(&format!("{name}(")),
            "{name} is not called by tests/programs/null.c"
        );
    }
    assert!(functions > 80, "{functions}");
}
