//! The C interface of nearcall. Its page is `include/nearcall.h`, which is made from the comments here
//! (`tests/header.rs`); whoever includes that finds the rules of ownership, threads and forks at its top.
//!
//! # Layout
//! - `failure`: what goes wrong, as a flag, a code and a text; the wall that no panic passes
//! - `input`: pointers and lengths made slices and texts, after all checks that can be made
//! - `codes`: the numbers of the interface
//! - `error`, `builder`, `value`, `task`, `engine`, `completions`, `reserved`, `answer`, `view`: the
//!   functions, a file for each handle
//!
//! Functions take `Option<&T>` and `Option<Box<T>>` where C has a pointer that may be NULL: so only
//! where memory is of the caller's own making is there anything unsafe.

pub mod answer;
#[cfg(feature = "bench")]
pub mod bench;
pub mod builder;
pub mod codes;
pub mod completions;
pub mod engine;
pub mod error;
mod failure;
pub mod input;
pub mod reserved;
pub mod task;
pub mod value;
pub mod view;

/// What the header says that threads may share. (Views apart, of an answer no more is read than what was
/// returned.)
const _: () = {
    const fn shared<T: Sync>() {}
    shared::<::engine::Answer>();
    shared::<engine::Engine>();
    shared::<task::Task>();
};
