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

pub use arguments::Arguments;
pub use de::from_value;
pub(crate) use de::read;
pub use ser::to_value;

/// Option and newtypes around one value, at most: a type that asks for itself again and again, and
/// never for anything else, ends in an error and not at the end of the stack.
const MAX_WRAPPERS: usize = 128;

/// Counts one more option or newtype.
fn one_more(wrappers: usize) -> Result<usize, ValueError> {
    if wrappers == MAX_WRAPPERS {
        let text = format!("more than {MAX_WRAPPERS} options and newtypes around one value");
        return Err(ValueError::here(ValueProblem::Other(text)));
    }
    Ok(wrappers + 1)
}

/// The names by which this room's own types are known again inside others. To other data formats
/// they say nothing: these pass over the names of newtypes.
mod mark {
    pub(super) const TENSOR: &str = "$nearcall::Tensor";
    pub(super) const VALUE: &str = "$nearcall::Value";
}
