//! What a model returned, written into the answer; or why it cannot be carried, and where it stood.
//!
//! What is no array costs no more for there being arrays: whether it is one is asked last.

use nearcall::peer::{AnswerBuf, MAX_DEPTH, Refusal};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::exception;
use crate::tensor::{self, Arrays, Unfit};

/// Writes `object` as the whole answer.
///
/// Subclasses count as what they inherit from (`numpy.float64` is a `float`, a named tuple a
/// `tuple`), and are read without running any method of theirs. (A class that has a `__buffer__`,
/// from Python 3.12 on, is asked for its memory.)
#[inline]
pub(crate) fn write(
    object: &Bound<'_, PyAny>,
    arrays: &mut Arrays<'_, '_>,
    answer: &mut AnswerBuf,
) {
    answer.start_value();
    if let Err(unanswerable) = value(object, 0, arrays, answer) {
        unanswerable.refuse(answer);
    }
}

/// Boxed, so that the result of the fast path is one word.
type Written<'py> = Result<(), Box<Unanswerable<'py>>>;

fn value<'py>(
    object: &Bound<'py, PyAny>,
    depth: usize,
    arrays: &mut Arrays<'_, '_>,
    answer: &mut AnswerBuf,
) -> Written<'py> {
    if object.is_none() {
        answer.none();
    } else if let Ok(value) = object.cast::<PyBool>() {
        // Before `int`, which it inherits from.
        answer.bool(value.is_true());
    } else if let Ok(value) = object.cast::<PyInt>() {
        match value.extract() {
            Ok(value) => answer.int(value),
            Err(_) => return fail(object, Problem::Wide),
        }
    } else if let Ok(value) = object.cast_exact::<PyFloat>() {
        answer.float(value.value());
    } else if let Ok(value) = object.cast::<PyString>() {
        match value.to_str() {
            Ok(value) => answer.str(value),
            Err(error) => return fail(object, Problem::Text(error)),
        }
    } else if let Ok(items) = object.cast::<PyTuple>() {
        tuple(items, enter(object, depth)?, arrays, answer)?;
    } else if let Ok(items) = object.cast::<PyList>() {
        list(items, enter(object, depth)?, arrays, answer)?;
    } else if let Ok(items) = object.cast::<PyDict>() {
        dict(items, enter(object, depth)?, arrays, answer)?;
    } else if let Ok(value) = object.cast::<PyBytes>() {
        answer.bytes(value.as_bytes());
    } else if let Ok(value) = object.cast::<PyFloat>() {
        // Late, because types have no flag for it as for the others: its subclasses are searched.
        answer.float(value.value());
    } else {
        return array(object, arrays, answer);
    }
    Ok(())
}

/// What is left: an array, or nothing that could be carried. Apart, and called cold, so that the fast
/// path stays as it is without arrays.
#[cold]
#[inline(never)]
fn array<'py>(
    object: &Bound<'py, PyAny>,
    arrays: &mut Arrays<'_, '_>,
    answer: &mut AnswerBuf,
) -> Written<'py> {
    tensor::write(object, arrays, answer).or_else(|unfit| fail(object, Problem::Unfit(unfit)))
}

/// The depth of a container's items, if it may have any.
#[inline]
fn enter<'py>(
    container: &Bound<'py, PyAny>,
    depth: usize,
) -> Result<usize, Box<Unanswerable<'py>>> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { fail(container, Problem::Deep) }
}

fn tuple<'py>(
    items: &Bound<'py, PyTuple>,
    depth: usize,
    arrays: &mut Arrays<'_, '_>,
    answer: &mut AnswerBuf,
) -> Written<'py> {
    answer.tuple(items.len());
    for (index, item) in items.iter_borrowed().enumerate() {
        value(&item, depth, arrays, answer)
            .map_err(|inner| inner.within(items, Step::Index(index)))?;
    }
    Ok(())
}

// A list or dict can change while it is read only if Python code runs meanwhile, which next to
// nothing here causes. Should it happen all the same: each item is held while it is read, every
// access is checked, and an answer with another number of items than it announced is refused.

#[inline(always)] // left to itself the compiler calls it: some nanoseconds for each list
fn list<'py>(
    items: &Bound<'py, PyList>,
    depth: usize,
    arrays: &mut Arrays<'_, '_>,
    answer: &mut AnswerBuf,
) -> Written<'py> {
    let len = items.len();
    answer.list(len);
    for index in 0..len {
        let Ok(item) = items.get_item(index) else { return fail(items, Problem::Changed) };
        value(&item, depth, arrays, answer)
            .map_err(|inner| inner.within(items, Step::Index(index)))?;
    }
    if items.len() == len { Ok(()) } else { fail(items, Problem::Changed) }
}

fn dict<'py>(
    items: &Bound<'py, PyDict>,
    depth: usize,
    arrays: &mut Arrays<'_, '_>,
    answer: &mut AnswerBuf,
) -> Written<'py> {
    let len = items.len();
    answer.dict(len);
    let mut position = 0;
    let mut read = 0;
    while let Some((key, item)) = next(items, &mut position) {
        read += 1;
        if read > len {
            break;
        }
        let key = match key.cast::<PyString>() {
            Ok(key) => key,
            Err(_) => return fail(items, Problem::KeyType(key)),
        };
        let key = match key.to_str() {
            Ok(key) => key,
            Err(error) => return fail(items, Problem::KeyText(error)),
        };
        answer.key(key);
        value(&item, depth, arrays, answer).map_err(|inner| inner.within(items, Step::key(key)))?;
    }
    if read == len && items.len() == len { Ok(()) } else { fail(items, Problem::Changed) }
}

/// The next pair of a dict. PyO3's own iterator panics when the dict has changed.
#[inline]
pub(crate) fn next<'py>(
    items: &Bound<'py, PyDict>,
    position: &mut ffi::Py_ssize_t,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = items.py();
    let (mut key, mut item) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: a dict, and places for what it gives. Any position is safe: it is checked against
    // the dict as it is now.
    if unsafe { ffi::PyDict_Next(items.as_ptr(), position, &raw mut key, &raw mut item) } == 0 {
        return None;
    }
    // SAFETY: alive, because nothing has run since the dict lent it; from here on held by us.
    let key = unsafe { Bound::from_borrowed_ptr(py, key) };
    // SAFETY: as above.
    let item = unsafe { Bound::from_borrowed_ptr(py, item) };
    Some((key, item))
}

/// An object that an answer cannot carry.
struct Unanswerable<'py> {
    object: Bound<'py, PyAny>,
    problem: Problem<'py>,
    /// The containers around it, innermost first, and its place in each.
    around: Vec<(Bound<'py, PyAny>, Step)>,
}

enum Problem<'py> {
    /// No place for its type, or for this array.
    Unfit(Unfit),
    /// An `int` that is too large.
    Wide,
    /// A `str` that could not be read: it has a lone surrogate, or there is no memory left.
    Text(PyErr),
    /// A `dict` with a key that could not be read.
    KeyText(PyErr),
    /// A `dict` with a key that is no `str`.
    KeyType(Bound<'py, PyAny>),
    /// A container with too many others around it.
    Deep,
    /// A container that changed while it was read.
    Changed,
}

/// A place in a container.
pub(crate) enum Step {
    Index(usize),
    Key(String),
}

impl Step {
    /// The place of a key, as Python would write it; the end of a long one is left out.
    #[cold]
    pub(crate) fn key(key: &str) -> Self {
        const SHOWN: usize = 60;
        let shown: String = key.chars().take(SHOWN).collect();
        let more = if shown.len() < key.len() { "..." } else { "" };
        Self::Key(format!("'{}{more}'", shown.escape_debug()))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(key) => write!(f, "[{key}]"),
        }
    }
}

#[cold]
fn fail<'py, T>(
    object: &Bound<'py, PyAny>,
    problem: Problem<'py>,
) -> Result<T, Box<Unanswerable<'py>>> {
    Err(Box::new(Unanswerable { object: object.clone(), problem, around: Vec::new() }))
}

impl<'py> Unanswerable<'py> {
    #[cold]
    fn within(mut self: Box<Self>, container: &Bound<'py, PyAny>, step: Step) -> Box<Self> {
        self.around.push((container.clone(), step));
        self
    }

    /// Puts the reason into the answer.
    #[cold]
    fn refuse(self: Box<Self>, answer: &mut AnswerBuf) {
        // Attached as PyO3 counts it: exceptions are dropped here.
        Python::attach(|_| {
            let Self { mut object, problem, mut around } = *self;
            let py = object.py();
            around.reverse();
            let reason = match problem {
                Problem::Unfit(unfit) => match unfit.reason(py, &object) {
                    Ok(reason) => reason,
                    Err(error) => return answer.python_error(exception::describe(py, &error)),
                },
                Problem::Wide => "it takes more than 64 bits".to_owned(),
                Problem::KeyType(key) => {
                    let class = exception::type_name(&key.get_type());
                    format!("it has a key of type {class}, an answer's dict has str keys only")
                }
                Problem::Text(error) | Problem::KeyText(error) => {
                    let Some(index) = exception::surrogate_at(py, &error) else {
                        return answer.python_error(exception::describe(py, &error));
                    };
                    let key = if object.is_instance_of::<PyDict>() { "a key with " } else { "" };
                    format!("it has {key}a lone surrogate at index {index}, UTF-8 does not")
                }
                Problem::Deep => match cut_at_cycle(&mut object, &mut around) {
                    true => "it contains itself".to_owned(),
                    false => format!("it stands in {MAX_DEPTH} others, the most there may be"),
                },
                Problem::Changed => "it changed while it was read".to_owned(),
            };
            let type_name = exception::type_name(&object.get_type());
            let mut place = "answer".to_owned();
            place.extend(around.iter().map(|(_, step)| step.to_string()));
            answer.refuse(Refusal::Unsupported { type_name, reason, place });
        });
    }
}

/// If one of the containers, or the object, stands within itself, shortens the path to the place
/// where it first does.
fn cut_at_cycle<'py>(
    object: &mut Bound<'py, PyAny>,
    path: &mut Vec<(Bound<'py, PyAny>, Step)>,
) -> bool {
    let is_within_itself = |end: &usize| {
        let (inner, _) = &path[*end];
        path[..*end].iter().any(|(outer, _)| outer.is(inner))
    };
    if let Some(end) = (0..path.len()).find(is_within_itself) {
        *object = path[end].0.clone();
        path.truncate(end);
        return true;
    }
    path.iter().any(|(outer, _)| outer.is(&*object))
}
