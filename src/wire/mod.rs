//! What travels between the processes: task bytes, answer bytes, control messages.
//!
//! This module is the only one that names `bincode`. The format is bincode's standard
//! configuration (little endian, variable-length integers), version 2.0.1, the last release that
//! works; the `wincode` crate reads the same format, should bincode have to be replaced.

mod args;
mod codec;
mod control;
mod outcome;
mod placed;
mod signature;
mod task;
mod tensor;
mod value;

pub use args::{Args, TaskReader};
pub use codec::Malformed;
pub(crate) use codec::{EncodeTo, IntoVec, RawWriter};
pub use control::{Exit, Limits, ModelSpec, Patience, Setup, StartMethod, ThreadReport};
pub(crate) use control::{
    FromServer, MAX_LAST_WORDS, MAX_MESSAGE, ToServer, decode_message, encode_message,
};
pub use outcome::{AnswerBuf, Outcome, PythonError, Refusal};
pub use placed::{Argument, Placed, TENSOR_ALIGNMENT, TensorSpec};
pub(crate) use placed::{Placement, Placements, SpliceError, place};
pub use signature::{Kind, Len, Parameter, Scalar, Signature};
pub(crate) use task::PlacedTask;
pub use task::{Arg, Task};
pub use tensor::{DType, Element, MAX_RANK, Tensor, TensorRef};
pub(crate) use value::write_placed_tag;
pub use value::{MAX_DEPTH, Map, Seq, Value, ValueRef};
