//! The benchmark of nearcall.
pub mod clock;
pub mod engine;
pub mod measure;
pub mod order;
pub mod rows;
pub mod workload;
