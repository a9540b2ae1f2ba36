//! The benchmark of nearcall.
pub mod clock;
pub mod compare;
pub mod engine;
pub mod measure;
pub mod order;
pub mod report;
pub mod rows;
pub mod table;
pub mod workload;
