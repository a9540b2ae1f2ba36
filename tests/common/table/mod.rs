//! The contract table (`contract/README.md`), as Rust hosts read it.

pub(crate) mod hosts;
pub(crate) mod run;

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

/// What is in `contract/table.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The hosts, each with its runner's path.
    pub(crate) hosts: BTreeMap<String, String>,
    pub(crate) engine: BTreeMap<String, Option<u64>>,
    /// Codes that no case expects, and why not.
    pub(crate) unreached: BTreeMap<String, String>,
    pub(crate) cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) promise: String,
    #[serde(default)]
    pub(crate) engine: BTreeMap<String, Option<u64>>,
    pub(crate) steps: Vec<Step>,
    #[serde(default)]
    pub(crate) not_for: BTreeMap<String, String>,
}

/// How an answer looks, where a case says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    pub(crate) value: Option<i64>,
    pub(crate) length: Option<usize>,
}

const PATIENCE_MS: u64 = 30_000;

fn patience() -> u64 {
    PATIENCE_MS
}

fn ok() -> String {
    "ok".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    Submit {
        op: String,
        x: i64,
        r#as: Option<String>,
        deadline_ms: Option<u64>,
        #[serde(default = "ok")]
        expect: String,
    },
    Call {
        op: String,
        x: i64,
        #[serde(default = "patience")]
        deadline_ms: u64,
        expect: String,
        value: Option<i64>,
        length: Option<usize>,
    },
    Retrieve {
        key: String,
        expect: String,
        value: Option<i64>,
        length: Option<usize>,
    },
    Wait {
        key: String,
        #[serde(default = "patience")]
        within_ms: u64,
        expect: String,
        value: Option<i64>,
        length: Option<usize>,
    },
    Cancel {
        key: String,
        expect: bool,
    },
    Abandon {
        key: String,
    },
    Forge {
        r#as: String,
        of: String,
        how: Forgery,
    },
    Misfit {
        how: Misfit,
        expect: String,
    },
    Message {
        contains: String,
    },
    File {
        name: String,
        there: bool,
    },
    Until {
        what: What,
        is: serde_json::Value,
        x: Option<i64>,
    },
    KillWorker {
        x: Option<i64>,
    },
    Shutdown {
        within_ms: u64,
        drained: bool,
    },
    ForkedChild {
        steps: Vec<Step>,
    },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Forgery {
    Later,
    NoSlot,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Misfit {
    Count,
    Type,
    Large,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    InUse,
    Workers,
    Runs,
    Call,
}

/// The words of all steps.
pub(crate) const WORDS: [&str; 14] = [
    "submit",
    "call",
    "retrieve",
    "wait",
    "cancel",
    "abandon",
    "forge",
    "misfit",
    "message",
    "file",
    "until",
    "kill_worker",
    "shutdown",
    "forked_child",
];

impl Table {
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/contract/table.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// A setting of a case's engine.
    pub(crate) fn setting(&self, case: &Case, name: &str) -> Option<u64> {
        case.engine.get(name).or_else(|| self.engine.get(name)).copied().flatten()
    }
}

impl Case {
    /// All steps in their order, those of forked children among them.
    pub(crate) fn all_steps(&self) -> Vec<&Step> {
        fn walk<'a>(steps: &'a [Step], all: &mut Vec<&'a Step>) {
            for step in steps {
                all.push(step);
                if let Step::ForkedChild { steps } = step {
                    walk(steps, all);
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.steps, &mut all);
        all
    }
}

impl Step {
    /// The outcome that it expects, if it is one that expects a word.
    pub(crate) fn expected(&self) -> Option<&str> {
        match self {
            Self::Submit { expect, .. }
            | Self::Call { expect, .. }
            | Self::Retrieve { expect, .. }
            | Self::Wait { expect, .. }
            | Self::Misfit { expect, .. } => Some(expect),
            Self::Until { what: What::Call, is, .. } => is.as_str(),
            _ => None,
        }
    }
}
