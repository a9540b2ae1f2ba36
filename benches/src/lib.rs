//! The benchmark of nearcall: the engine beside its limits and its rivals, in one run.
//!
//! # Layout
//! Each line names only what is below it.
//!
//! - [`run`]: a run from its options to its files and tables
//! - [`cases`]: what is measured, and what stands beside what
//! - [`targets`]: what is aimed at, and whether it was reached
//! - [`compare`]: two results beside each other
//! - [`table`], [`report`]: results on a terminal and as a page
//! - [`ground`]: what all turns of a run have in common: the Python, the models, the programs
//! - [`engine`], [`tensors`], [`awaited`]: the engine under the benchmark; with arrays; awaited
//! - [`order`]: the pipe to the programs that run everything else (`benches/yardstick`,
//!   `benches/rivals`), which are apart because they link libpython, or are heavy
//! - [`rows`], [`machine`]: what goes into `bench.json`
//! - [`measure`]: what one turn brings
//! - [`workload`], [`interpreter`], [`clock`]: the Python functions, their Python, the clocks

pub mod awaited;
pub mod cases;
pub mod clock;
pub mod compare;
pub mod engine;
pub mod ground;
pub mod interpreter;
pub mod machine;
pub mod measure;
pub mod order;
pub mod report;
pub mod rows;
pub mod run;
pub mod table;
pub mod targets;
pub mod tensors;
pub mod workload;
