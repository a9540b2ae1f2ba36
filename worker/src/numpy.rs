//! numpy as far as tensors need it. The worker itself imports it only where a model may get tensors;
//! what a model returns is known as numpy's only if somebody has imported it.

use nearcall::peer::DType;
use pyo3::exceptions::{PyModuleNotFoundError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// What was found.
static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();
/// Set once there was none to import. A model may still bring one of its own later.
static IS_MISSING: PyOnceLock<()> = PyOnceLock::new();

/// Parts of the module.
pub(crate) struct Numpy {
    ndarray: Py<PyType>,
    /// What all of numpy's scalars inherit from.
    generic: Py<PyType>,
    dtypes: Vec<(DType, Py<PyAny>)>,
}

impl Numpy {
    /// Imports numpy, at the first call; `None`: the environment has none.
    ///
    /// # Errors
    /// What the import of a numpy that is there raises.
    pub(crate) fn import(py: Python<'_>) -> PyResult<Option<&'static Self>> {
        if let Some(numpy) = NUMPY.get(py) {
            return Ok(Some(numpy));
        }
        if IS_MISSING.get(py).is_some() {
            return Ok(Self::loaded(py));
        }
        // Attached as PyO3 counts it: exceptions are dropped here.
        Python::attach(|py| match py.import("numpy") {
            Ok(module) => Ok(Self::keep(py, Self::parts(&module)?)),
            Err(error) if is_missing(py, &error) => {
                let _ = IS_MISSING.set(py, ());
                Ok(None)
            }
            Err(error) => Err(error),
        })
    }

    /// numpy, if it is imported already.
    pub(crate) fn loaded(py: Python<'_>) -> Option<&'static Self> {
        if let Some(numpy) = NUMPY.get(py) {
            return Some(numpy);
        }
        Python::attach(|py| {
            let module = imported(py, "numpy")?;
            Self::keep(py, Self::parts(&module).ok()?)
        })
    }

    fn keep(py: Python<'_>, numpy: Self) -> Option<&'static Self> {
        // The import may have run code that was here first.
        let _ = NUMPY.set(py, numpy);
        NUMPY.get(py)
    }

    fn parts(module: &Bound<'_, PyAny>) -> PyResult<Self> {
        let class = |name| Ok::<_, PyErr>(module.getattr(name)?.cast_into::<PyType>()?.unbind());
        let dtype = module.getattr("dtype")?;
        let named = |kind: DType| Ok((kind, dtype.call1((kind.name(),))?.unbind()));
        Ok(Self {
            ndarray: class("ndarray")?,
            generic: class("generic")?,
            dtypes: DType::ALL.iter().copied().map(named).collect::<PyResult<_>>()?,
        })
    }

    /// The array of this shape over the elements that `memory` shows: read-only if that is.
    ///
    /// # Errors
    /// What numpy raises when there is no memory left.
    pub(crate) fn array<'py>(
        &self,
        dtype: DType,
        shape: Bound<'py, PyAny>,
        memory: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = memory.py();
        let Some((_, dtype)) = self.dtypes.iter().find(|(kind, _)| *kind == dtype) else {
            return Err(PyTypeError::new_err(format!("no numpy dtype is known for {dtype}")));
        };
        self.ndarray.bind(py).call1((shape, dtype, memory))
    }

    /// Whether an object is one of numpy's scalars, `numpy.float32(1)` for instance.
    pub(crate) fn is_scalar(&self, object: &Bound<'_, PyAny>) -> bool {
        is_instance(object, &self.generic)
    }

    /// Whether an object is an array of numpy's own; or of a class that inherits from that.
    pub(crate) fn is_array(&self, object: &Bound<'_, PyAny>) -> bool {
        is_instance(object, &self.ndarray)
    }

    /// Whether an array has a mask, which says of each element whether it counts.
    pub(crate) fn is_masked(&self, array: &Bound<'_, PyAny>) -> bool {
        // Nearly all arrays: no time is spent with them.
        if array.get_type().is(&self.ndarray) || !self.is_array(array) {
            return false;
        }
        Python::attach(|py| {
            let masked = imported(py, "numpy.ma").and_then(|ma| ma.getattr("MaskedArray").ok());
            let masked = masked.and_then(|class| class.cast_into::<PyType>().ok());
            masked.is_some_and(|class| is_instance(array, &class.unbind()))
        })
    }
}

/// By the type alone, so that no code of the object's runs.
fn is_instance(object: &Bound<'_, PyAny>, class: &Py<PyType>) -> bool {
    // SAFETY: an object has a type, and this is another one; the thread is attached (`object`).
    unsafe { ffi::PyType_IsSubtype(object.get_type_ptr(), class.as_ptr().cast()) != 0 }
}

/// A module that was imported already.
fn imported<'py>(py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
    let modules = py.import("sys").and_then(|sys| sys.getattr("modules")).ok()?;
    let module = modules.cast::<PyDict>().ok()?.get_item(name).ok()??;
    (!module.is_none()).then_some(module)
}

/// Whether an import failed because there is no numpy, and not because a part of it is missing.
fn is_missing(py: Python<'_>, error: &PyErr) -> bool {
    let name = || error.value(py).getattr("name").ok()?.extract::<String>().ok();
    error.is_instance_of::<PyModuleNotFoundError>(py) && name().as_deref() == Some("numpy")
}
