//! Rust's own types in and out of values, through `serde`.
//!
//! - `view`: owned and borrowed values, looked at alike
//! - `numbers`: a tensor's elements as numbers, and numbers as a tensor
//! - `ser`, `de`: [`to_value`] and [`from_value`]
//! - `value`, `tensor`: values and tensors in other data formats, and whole inside other types
//! - `arguments`: a struct as a model's keyword arguments
//! - `failure`: how an error learns its place

mod arguments;
mod de;
mod failure;
mod numbers;
mod ser;
mod tensor;
mod value;
mod view;

use crate::error::{ValueError, ValueProblem};
use crate::wire::MAX_DEPTH;

pub use arguments::Arguments;
pub use de::from_value;
pub(crate) use de::read;
pub use ser::to_value;

/// Options and newtypes around one value, at most, those around its containers included when it goes
/// in: a type that is made of itself again and again ends in an error and not at the end of the stack.
const MAX_WRAPPERS: usize = 4 * MAX_DEPTH;

/// Counts one more option or newtype.
fn one_more(wrappers: usize) -> Result<usize, ValueError> {
    if wrappers == MAX_WRAPPERS {
        let text = format!("more than {MAX_WRAPPERS} options and newtypes around one value");
        return Err(ValueError::here(ValueProblem::Other(text)));
    }
    Ok(wrappers + 1)
}

/// Lengths that are only announced ask for no more memory than this many items.
const TRUSTED_LEN: usize = 1024;

/// serde_json's names for its numbers and raw texts, where a feature of it has them travel as such.
mod foreign {
    pub(super) const NUMBER: &str = "$serde_json::private::Number";
    pub(super) const RAW: &str = "$serde_json::private::RawValue";

    pub(super) fn is_one(name: &str) -> bool {
        name == NUMBER || name == RAW
    }
}

/// The names by which this room's own types are known again inside others. To other data formats
/// they say nothing: these pass over the names of newtypes.
mod mark {
    pub(super) const TENSOR: &str = "$nearcall::Tensor";
    pub(super) const VALUE: &str = "$nearcall::Value";
    /// Variants of a [`VALUE`]: other formats have no such types.
    pub(super) const A_TUPLE: &str = "$nearcall::tuple";
    pub(super) const A_TENSOR: &str = "$nearcall::tensor";
}
