//! One call of a benchmark's Python function, as fast as one process can make it: arguments built
//! from Rust values, the call, the answer read and checked, all objects freed again.
//!
//! What makes it fast, beside a thread that is attached already:
//! - Vectorcall: no tuple and no dict is built. The keyword names are interned once, so that
//!   Python finds them by address.
//! - The method's function is called with `self` as its first argument: a bound method does
//!   nothing else, one call deeper.
//! - The function's vectorcall is looked up once. (PyO3's `PyObject_Vectorcall` looks it, and the
//!   thread state, up in each call.)
//! - ASCII is copied into a new `str`. (CPython's UTF-8 decoder looks at eight bytes at a time.)

use std::ptr;

use anyhow::{Context, ensure};
use nearcall_bench::workload::{BIG_MODEL_ANSWER, FLOATS, INT, STRS, Workload};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::objects::{float, int, list, owned, read_int, read_pair, read_str, str};

/// The most keyword arguments that a workload has.
const MOST: usize = 3;

/// What is needed to call one workload's function.
pub(crate) struct PythonCall {
    workload: Workload,
    /// Lives as long as `function`, whose vectorcall it is.
    vectorcall: ffi::vectorcallfunc,
    function: Py<PyAny>,
    /// The function's first argument.
    model: Py<PyAny>,
    names: Py<PyTuple>,
    /// What `echo` is given.
    text: String,
}

impl PythonCall {
    /// A call of the workload's method of `bench_model.Model`.
    ///
    /// # Errors
    /// What Python raises.
    pub(crate) fn new(py: Python<'_>, workload: Workload) -> anyhow::Result<Self> {
        let model = py.import("bench_model")?.getattr("Model")?.call0()?;
        Self::of(&model, workload)
    }

    /// A call of the workload's method of `model`.
    fn of(model: &Bound<'_, PyAny>, workload: Workload) -> anyhow::Result<Self> {
        let py = model.py();
        let names: &[&str] = match workload {
            Workload::Noop | Workload::Garbage => &["number"],
            Workload::BigModel => &["float_features", "str_features", "int_feature"],
            Workload::Echo(_) => &["text"],
        };
        let names = PyTuple::new(py, names.iter().map(|name| PyString::intern(py, name)))?;
        let function = model.getattr(workload.method())?.getattr("__func__")?;
        // SAFETY: the thread is attached (`py`), and this is an object.
        let vectorcall = unsafe { ffi::PyVectorcall_Function(function.as_ptr()) };
        let text = match workload {
            Workload::Echo(bytes) => "x".repeat(bytes),
            _ => String::new(),
        };
        Ok(Self {
            workload,
            vectorcall: vectorcall.context("the method is no Python function")?,
            function: function.unbind(),
            model: model.clone().unbind(),
            names: names.unbind(),
            text,
        })
    }

    /// Makes one call and checks its answer.
    ///
    /// # Errors
    /// A wrong answer, or what Python raises.
    #[inline]
    pub(crate) fn call(&self, py: Python<'_>, number: u64) -> anyhow::Result<()> {
        match self.workload {
            Workload::Noop | Workload::Garbage => {
                let number = number.cast_signed();
                let result = self.vectorcall(py, [&int(py, number)?])?;
                let answer = read_int(&result)?;
                ensure!(answer == number, "{answer} instead of {number}");
            }
            Workload::BigModel => {
                let floats = list(py, FLOATS, float)?;
                let strs = list(py, STRS, str)?;
                let result = self.vectorcall(py, [&floats, &strs, &int(py, INT)?])?;
                let [number, text] = read_pair(&result)?;
                let (number, text) = (read_int(number)?, read_str(text)?);
                ensure!(
                    number == BIG_MODEL_ANSWER && text.is_empty(),
                    "({number}, {text:?}) instead of ({BIG_MODEL_ANSWER}, \"\")"
                );
            }
            Workload::Echo(_) => {
                let result = self.vectorcall(py, [&str(py, &self.text)?])?;
                let answer = read_str(&result)?;
                ensure!(answer == self.text, "a text of {} bytes came back changed", answer.len());
            }
        }
        Ok(())
    }

    /// Calls the function with the model and these keyword arguments: as many as `names` has,
    /// which each workload's own call sees to.
    #[inline]
    fn vectorcall<'py, const COUNT: usize>(
        &self,
        py: Python<'py>,
        arguments: [&Bound<'py, PyAny>; COUNT],
    ) -> anyhow::Result<Bound<'py, PyAny>> {
        const { assert!(COUNT <= MOST) };
        // The place in front of the arguments is the callee's, by the flag below.
        let mut slots = [ptr::null_mut(); 2 + MOST];
        slots[1] = self.model.as_ptr();
        for (slot, argument) in slots[2..].iter_mut().zip(arguments) {
            *slot = argument.as_ptr();
        }
        // Derived from the whole array, because the callee may reach in front of it.
        let first = slots.as_mut_ptr().wrapping_add(1);
        const ONE_POSITIONAL: usize = 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let (function, names) = (self.function.as_ptr(), self.names.as_ptr());
        // SAFETY: the thread is attached (`py`); this is `function`'s own vectorcall; `first` has
        // the model and one object for each name, borrowed until after the call, and one writable
        // place in front.
        let result = unsafe { (self.vectorcall)(function, first, ONE_POSITIONAL, names) };
        // SAFETY: a call gives a new reference, or null with an exception set.
        unsafe { owned(py, result) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::start_for_tests;

    const ALL: [Workload; 5] = [
        Workload::Noop,
        Workload::BigModel,
        Workload::Echo(0),
        Workload::Echo(70_000),
        Workload::Garbage,
    ];

    #[test]
    fn each_function_answers_right() {
        start_for_tests();
        Python::attach(|py| {
            for workload in ALL {
                let call = PythonCall::new(py, workload).unwrap();
                for number in [0, 1, 1 << 31, i64::MAX as u64] {
                    call.call(py, number).unwrap();
                }
            }
        });
    }

    /// The error of each workload when its model answers with what `answer` evaluates to.
    fn errors(answer: &str) -> [String; 5] {
        start_for_tests();
        let source = ALL.map(|workload| {
            let method = workload.method();
            format!("    def {method}(self, **arguments): return {answer}\n")
        });
        let source = format!("class Model:\n{}", source.concat());
        Python::attach(|py| {
            let source = std::ffi::CString::new(source).unwrap();
            let module = PyModule::from_code(py, &source, c"wrong.py", c"wrong").unwrap();
            let model = module.getattr("Model").unwrap().call0().unwrap();
            ALL.map(|workload| {
                let call = PythonCall::of(&model, workload).unwrap();
                call.call(py, 7).unwrap_err().to_string()
            })
        })
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        assert_eq!(errors("8")[0], "8 instead of 7");
        assert_eq!(errors("8")[4], "8 instead of 7");
        assert_eq!(errors("(48, '')")[1], "(48, \"\") instead of (49, \"\")");
        assert_eq!(errors("(49, 'x')")[1], "(49, \"x\") instead of (49, \"\")");
        assert_eq!(errors("'y'")[2], "a text of 1 bytes came back changed");
        assert_eq!(errors("'x' * 69_999 + 'y'")[3], "a text of 70000 bytes came back changed");
    }

    #[test]
    fn an_answer_of_another_type_is_an_error() {
        assert_eq!(
            errors("None"),
            [
                "None instead of an int",
                "None instead of a pair",
                "None instead of a str",
                "None instead of a str",
                "None instead of an int"
            ]
        );
        assert_eq!(errors("(49,)")[1], "(49,) instead of a pair");
        assert!(errors("1 << 64")[0].contains("OverflowError"));
    }

    #[test]
    fn an_exception_is_an_error() {
        let all = errors("1 // 0");
        assert!(all.iter().all(|error| error.contains("ZeroDivisionError")), "{all:?}");
    }

    #[test]
    fn nothing_is_kept_from_call_to_call() {
        start_for_tests();
        Python::attach(|py| {
            let blocks = || -> i64 {
                let sys = py.import("sys").unwrap();
                sys.call_method0("getallocatedblocks").unwrap().extract().unwrap()
            };
            for workload in [Workload::Noop, Workload::BigModel, Workload::Echo(3)] {
                let call = PythonCall::new(py, workload).unwrap();
                let kept_of_thousand = |_| {
                    let before = blocks();
                    (1_000..2_000).for_each(|number| call.call(py, number).unwrap());
                    blocks() - before
                };
                // Other tests may allocate and free meanwhile: the median is not theirs.
                let mut kept: Vec<i64> = (0..9).map(kept_of_thousand).collect();
                kept.sort_unstable();
                assert!(kept[4] < 500, "{kept:?} blocks after a thousand calls of {workload:?}");
            }
        });
    }
}
