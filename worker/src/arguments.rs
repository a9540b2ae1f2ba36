//! A task's bytes as Python objects, placed as a vectorcall wants them.

use std::io;

use nearcall::peer::{Argument, InPlace, Kind, MalformedTask, Scalar, Signature, TaskReader};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::callee::{Callee, IN_FRONT};
use crate::in_place::Tensors;
use crate::value::Made;
use crate::{exception, tensor, value};

/// Why a task could not be read.
pub(crate) enum Unreadable {
    /// Its bytes do not fit the signature.
    Malformed,
    /// Python could not make an object (there is no memory left); its exception is set.
    Raised,
    /// A tensor in place could not be mapped.
    Unmapped(io::Error),
}

impl From<MalformedTask> for Unreadable {
    fn from(_: MalformedTask) -> Self {
        Self::Malformed
    }
}

/// The room for one call's arguments, used again for each call.
///
/// # Invariants
/// The first `placed` of `slots[IN_FRONT..]` each own one reference; nothing else in `slots` does.
pub(crate) struct Arguments {
    kinds: Box<[Kind]>,
    /// The keywords: interned once, so that Python compares them by address.
    names: Py<PyTuple>,
    /// Those in front are the callee's; then one for each argument.
    slots: Box<[*mut ffi::PyObject]>,
    placed: usize,
}

impl Arguments {
    pub(crate) fn new(py: Python<'_>, signature: &Signature) -> PyResult<Self> {
        let parameters = signature.parameters();
        let names = parameters.iter().map(|parameter| PyString::intern(py, &parameter.name));
        Ok(Self {
            kinds: parameters.iter().map(|parameter| parameter.kind).collect(),
            names: PyTuple::new(py, names.collect::<Vec<_>>())?.unbind(),
            slots: vec![std::ptr::null_mut(); IN_FRONT + parameters.len()].into(),
            placed: 0,
        })
    }

    /// Makes the arguments of one call. They are new objects: whatever the callee keeps of them or
    /// changes in them is its own; but for tensors in place, which are added to `tensors`. Ours live
    /// until [`release`](Self::release), also after an error.
    #[inline]
    pub(crate) fn place(
        &mut self,
        py: Python<'_>,
        task: &[u8],
        in_place: &mut InPlace<'_>,
        tensors: &mut Tensors,
    ) -> Result<(), Unreadable> {
        self.release(py);
        let mut reader = TaskReader::new(task);
        for kind in &self.kinds {
            let argument = match *kind {
                Kind::One(scalar) => one(py, &mut reader, scalar)?,
                Kind::List(scalar, _) => list(py, &mut reader, scalar)?,
                Kind::Any => any(py, &mut reader, in_place, tensors, self.placed)?,
            };
            self.slots[IN_FRONT + self.placed] = argument.into_ptr();
            self.placed += 1;
        }
        Ok(reader.finish()?)
    }

    /// Calls `callee` with the placed arguments as keywords. `None`: it raised; the exception is
    /// set.
    #[inline]
    pub(crate) fn call<'py>(
        &mut self,
        py: Python<'py>,
        callee: &Callee,
    ) -> Option<Bound<'py, PyAny>> {
        debug_assert_eq!(self.placed, self.kinds.len(), "called before all are placed");
        // SAFETY: `names` has a name for each of the kinds, and `place` has put an object there for
        // each; they live until `release`.
        unsafe { callee.call(py, &mut self.slots, &self.names) }
    }

    /// The keywords of some arguments, as an error names them.
    pub(crate) fn quoted(&self, py: Python<'_>, arguments: &[usize]) -> String {
        let names = self.names.bind(py);
        let quoted = |index: &usize| {
            let name = names.get_item(*index).ok()?;
            Some(format!("{:?}", exception::text(name.cast::<PyString>().ok()?)))
        };
        arguments.iter().filter_map(quoted).collect::<Vec<_>>().join(", ")
    }

    /// Gives the arguments up. May run whatever Python code their deaths set off.
    #[inline]
    pub(crate) fn release(&mut self, py: Python<'_>) {
        while self.placed > 0 {
            // First, so that code which this sets off finds the invariant kept.
            self.placed -= 1;
            let argument = self.slots[IN_FRONT + self.placed];
            // SAFETY: the type's invariant: the reference is ours, and given up here, once.
            drop(unsafe { Bound::from_owned_ptr(py, argument) });
        }
    }
}

/// One scalar.
#[inline]
fn one<'py>(
    py: Python<'py>,
    reader: &mut TaskReader<'_>,
    scalar: Scalar,
) -> Result<Bound<'py, PyAny>, Unreadable> {
    match scalar {
        Scalar::Bool => value::bool(py, reader.bool()?),
        Scalar::Int => value::int(py, reader.int()?),
        Scalar::Float => value::float(py, reader.float()?),
        Scalar::Str => value::text(py, reader.str_bytes()?),
    }
}

/// Any value, or a tensor in place. Apart, so that the others' path stays short.
#[inline(never)]
fn any<'py>(
    py: Python<'py>,
    reader: &mut TaskReader<'_>,
    in_place: &mut InPlace<'_>,
    tensors: &mut Tensors,
    index: usize,
) -> Made<'py> {
    match reader.argument()? {
        Argument::Value(value) => value::object(py, &value),
        Argument::Placed(placed) => {
            let memory = in_place.memory(&placed).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => Unreadable::Malformed,
                _ => Unreadable::Unmapped(error),
            })?;
            let exporter = tensors.show(py, index, memory).map_err(|error| error.restore(py));
            tensor::in_place(&placed, exporter.map_err(|()| Unreadable::Raised)?)
        }
    }
}

/// A list of scalars.
#[inline]
fn list<'py>(
    py: Python<'py>,
    reader: &mut TaskReader<'_>,
    scalar: Scalar,
) -> Result<Bound<'py, PyAny>, Unreadable> {
    let len = reader.list()?;
    value::list(py, len, || one(py, reader, scalar))
}
