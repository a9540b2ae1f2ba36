//! The fork server and the workers of `nearcall`, with CPython in them.
//!
//! There are two ways to be one: the program `nearcall-worker` ([`main`]) starts an interpreter for the
//! environment that it is told; and in an interpreter that is running already, the package `nearcall`
//! calls [`run_in_python`]. All behind that is the same code.
//!
//! # Layout
//! - `interpreter`: CPython's life: start, forks, end; who holds the GIL when
//! - `runtime`: the fork server's side, called by `nearcall::peer`
//! - `model`: finds what `module:callable` names and makes it ready in a worker
//! - `signature`: whether it can be called with the keywords that the host declared
//! - `handler`: a worker's side: one task after another
//! - `arguments`: task bytes to what a call wants
//! - `value`: a task's values to Python objects
//! - `callee`: the call itself
//! - `answer`: Python objects to answer bytes
//! - `tensor`: arrays of numbers, both ways
//! - `in_place`: arrays over memory that is a task's alone, and what the model keeps of it
//! - `forks`: what a child that the model forks has of those
//! - `buffer`: an array's memory, whoever made it
//! - `numpy`: numpy, if it is there
//! - `garbage`: the collector, in the pauses between calls
//! - `exception`: Python exceptions to errors for the host
//! - `threads`: which import has started threads
//!
//! Everything else (arguments, control socket, forking, the ring) is in `nearcall::peer`, which
//! knows no Python.
//!
//! # The model protocol
//! A model is named `module:callable`; dots in `callable` reach into classes and objects.
//!
//! **A class** is constructed in each worker, without arguments. Then its `initialize(**kwargs)`
//! is called if it has one, with the keyword arguments configured. Each task is a call of the
//! method configured, or of the instance itself (`__call__`) if none is. When a worker ends in
//! order, its `finalize()` is called if it has one. These methods are looked up on the class.
//!
//! **Anything else that can be called** is called as it is, or its attribute if a method is
//! configured. It takes no initial keyword arguments.
//!
//! **Preload.** After the import, once, before any worker exists, a class's `preload()` is called
//! (a classmethod or staticmethod), or else the module's function of that name. What it loads,
//! all workers share.
//!
//! **Calls** are by keyword: the names of the signature, always all of them. The arguments are
//! `bool`, `int`, `float`, `str` and lists of these; and, where the signature says "value", any of
//! what an answer may be. They are made anew for each call.
//!
//! **Answers** are None, `bool`, `int` of at most 64 bits, `float`, `str`, `bytes`, arrays of
//! numbers, and lists, tuples and dicts with `str` keys of these, in 64 containers at most.
//! Subclasses count as what they inherit from. Anything else is an error that names the type and
//! where it stood.
//!
//! **Arrays** arrive as a `numpy.ndarray` that is read-only, C-contiguous, aligned, and over memory
//! of its own: the model may keep it. numpy is imported with the model where the signature
//! has values of any type, once for all workers. Where the environment has no numpy they arrive as a
//! read-only `memoryview` of that format and shape. What cannot be one: without elements it is flat;
//! with `float16` elements, before Python 3.12, it is a flat view of the bytes (format `B`).
//!
//! **Tensors in place**, which the host has reserved (`Engine::reserve`), arrive as the same kind of
//! array, but over the very memory that the host has written, at a multiple of 64 bytes: nothing is
//! copied. So they are the model's for the call only. Afterwards the slot is another task's, and an
//! array that is still there, or a view of one, would show other numbers. That is found out, by the
//! references to its memory, when the call's frames, arguments and answer are gone, garbage is collected,
//! and other threads had a moment to let go. Who keeps an array all the same (in an attribute, a cache, a
//! log that holds a traceback) keeps it as it was, as a private copy; but the task ends with an error
//! that names the argument (`Refusal::Kept`), unless the model has raised one itself. A worker whose model
//! keeps something for a second and a half is replaced, one with too much of it ends at once.
//! `numpy.array(x)`, or `bytes(x)`, is the copy to keep. Not found out is what has the address and no
//! reference: an array made from a bare `__array_interface__` dict or from `x.ctypes.data`, pages that
//! the kernel has pinned.
//!
//! A child that the model forks during the call (`os.fork`, `multiprocessing`) has copies of the task's
//! tensors, at the same addresses, for as long as it lives. One that C code forks has nothing there, and
//! is killed if it touches them.
//!
//! Inputs are read-only. Outputs are writable, and hold anything at first: a model writes into
//! them (`numpy.add(a, b, out=out)`). Returned, alone or in others, in whole or in a part in C order, an
//! output is not copied; a second time it is. DLPack shares the memory too (`numpy.from_dlpack(x)`,
//! `torch.from_dlpack(x)`): outputs always, inputs if numpy is 2.1 or later and the consumer knows
//! read-only memory (DLPack 1.0). `torch.from_numpy(x)` shares it in any case, and knows nothing of
//! read-only: a model that writes into an input so is killed.
//!
//! Returned, an array is whatever shows its memory as up to 32 dimensions of `bool`, 8 to 64-bit
//! integers or 16 to 64-bit floats in this machine's byte order: `numpy.ndarray`, `array.array`,
//! `memoryview`, `ctypes` arrays. It may have any strides. A `bytearray` counts as `bytes`, and numpy's
//! scalars count as the `bool`, `int` or `float` they stand for; an array of rank 0 stays an array.
//! One that is too large for the slot, and in C order, is copied once, straight to the host's memory.
//! Masked arrays are an error: their masks would be lost. So are objects that only convert to an
//! array (torch tensors): the model calls `.numpy()`.
//!
//! **Exceptions**, `SystemExit` and `KeyboardInterrupt` included, end the task or the start,
//! never the process.
//!
//! **Forks.** What the import and `preload` leave is copied into each worker: modules and objects
//! are fine; threads, connections and CUDA contexts are not, and belong into `initialize`. The
//! global generators of `random` and of `numpy.random` are seeded anew in each worker; other
//! generators made before the fork draw the same numbers in all. Exit functions registered before
//! the fork do not run in workers.

mod answer;
mod arguments;
mod buffer;
mod callee;
mod exception;
mod forks;
mod garbage;
mod handler;
mod in_place;
mod interpreter;
mod model;
mod numpy;
mod runtime;
mod signature;
mod tensor;
#[cfg(test)]
mod tests;
mod threads;
mod value;

use std::ffi::OsString;
use std::process::ExitCode;

use nearcall::peer::{self, CommandLine};
use pyo3::prelude::*;

use crate::runtime::PythonRuntime;

#[doc(hidden)]
pub mod convert;

/// The program `nearcall-worker`.
pub fn main() -> ExitCode {
    peer::run(Some(&interpreter::language()), PythonRuntime::new)
}

/// What `nearcall-worker --version --json` prints, for the interpreter that is running.
pub fn version() -> String {
    peer::version_json(Some(&interpreter::language()))
}

/// Makes the process of an interpreter that has just been started what `nearcall-worker` is, with these
/// arguments; `interpreter`, a program and its options, starts another such one. Gives the exit status: the process must end
/// with it at once, without Python's own end (`os._exit`), which could wait for what a model has left
/// running.
///
/// All descriptors above 2 are closed but those that the arguments name.
///
/// # Errors
/// What Python raises when the interpreter cannot be made to look as that of `nearcall-worker` does.
pub fn run_in_python(
    py: Python<'_>,
    arguments: Vec<String>,
    interpreter: Vec<OsString>,
) -> PyResult<u8> {
    interpreter::adopt(py)?;
    let again = peer::PYTHON_ARGUMENTS.map(OsString::from);
    let program = interpreter.into_iter().chain(again).collect();
    let command_line = CommandLine { arguments, program };
    Ok(peer::run_as(command_line, Some(&interpreter::language()), PythonRuntime::new))
}
