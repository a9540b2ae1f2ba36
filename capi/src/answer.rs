//! `nearcall_answer`: what the model returned.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use engine::error::AnswerError;
use engine::{Answer as Returned, ValueRef};

use crate::codes::Kind;
use crate::error::Error;
use crate::failure::{Failure, guard, shielded};
use crate::input::Text;
use crate::view::{self, Arena, Tensor, View};

/// What the model returned. The caller's; it needs no engine any more. Threads may read it at once
/// (nearcall_answer_view() apart), while none fills it.
///
/// What is read from it (texts, bytes, arrays, views) belongs to it, until it is given to another function that
/// fills it, or freed.
///
/// The functions below read the value at an index of the tuple that the model returned; if it returned no tuple,
/// the whole value is at index 0. They return NEARCALL_FLAG_ERROR, with the code NEARCALL_CODE_ANSWER, if there is
/// something else or nothing.
#[derive(Debug, Default)]
pub struct Answer {
    returned: Returned,
    arena: Arena,
}

impl Answer {
    /// The answer, to be filled: views of the last one are gone.
    #[inline]
    pub(crate) fn refill(&mut self) -> &mut Returned {
        if !self.arena.is_empty() {
            self.arena.clear();
        }
        &mut self.returned
    }
}

/// Reads what is at an index, for C.
#[inline(always)]
fn read<'a, T>(
    answer: Option<&'a Answer>,
    place: Option<&mut MaybeUninit<T>>,
    error: Option<&mut Error>,
    read: impl FnOnce(&'a Returned) -> Result<T, AnswerError>,
) -> c_int {
    guard(error, || {
        let answer = answer.ok_or_else(|| Failure::null("the answer"))?;
        let place = place.ok_or_else(|| Failure::null("the place for the value"))?;
        place.write(read(&answer.returned)?);
        Ok(())
    })
}

fn kind(value: ValueRef<'_>) -> Kind {
    match value {
        ValueRef::None => Kind::None,
        ValueRef::Bool(_) => Kind::Bool,
        ValueRef::Int(_) => Kind::Int,
        ValueRef::Float(_) => Kind::Float,
        ValueRef::Str(_) => Kind::Str,
        ValueRef::Bytes(_) => Kind::Bytes,
        ValueRef::List(_) => Kind::List,
        ValueRef::Tuple(_) => Kind::Tuple,
        ValueRef::Dict(_) => Kind::Dict,
        ValueRef::Tensor(_) => Kind::Tensor,
    }
}

fn other(answer: &Returned, index: usize, expected: &'static str) -> AnswerError {
    let found = answer.get(index).map_or("nothing", |found| found.type_name());
    AnswerError { index, expected, found }
}

/// Makes an answer, to be filled by other functions and freed with nearcall_answer_free(). Until then it is None.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_new() -> Option<Box<Answer>> {
    shielded(None, || Some(Box::default()))
}

/// Frees an answer. NULL is nothing to free.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_free(answer: Option<Box<Answer>>) {
    shielded((), || drop(answer));
}

/// How many values there are: the items of a tuple, else 1. 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_count(answer: Option<&Answer>) -> usize {
    shielded(0, || {
        answer.map_or(0, |answer| match answer.returned.value() {
            ValueRef::Tuple(items) => items.len(),
            _ => 1,
        })
    })
}

/// What is at an index: a nearcall_kind; -1 if nothing is there, or for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_kind(answer: Option<&Answer>, index: usize) -> c_int {
    shielded(-1, || {
        let value = answer.and_then(|answer| answer.returned.get(index));
        value.map_or(-1, |value| kind(value) as c_int)
    })
}

/// Reads a bool.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_bool(
    answer: Option<&Answer>,
    index: usize,
    value: Option<&mut MaybeUninit<bool>>,
    error: Option<&mut Error>,
) -> c_int {
    read(answer, value, error, |answer| answer.bool(index))
}

/// Reads an int.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_int(
    answer: Option<&Answer>,
    index: usize,
    value: Option<&mut MaybeUninit<i64>>,
    error: Option<&mut Error>,
) -> c_int {
    read(answer, value, error, |answer| answer.int(index))
}

/// Reads a float.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_float(
    answer: Option<&Answer>,
    index: usize,
    value: Option<&mut MaybeUninit<f64>>,
    error: Option<&mut Error>,
) -> c_int {
    read(answer, value, error, |answer| answer.float(index))
}

/// Reads a str: UTF-8, which no NUL ends.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_str(
    answer: Option<&Answer>,
    index: usize,
    value: Option<&mut MaybeUninit<Text>>,
    error: Option<&mut Error>,
) -> c_int {
    read(answer, value, error, |answer| Ok(view::text(answer.str(index)?.as_bytes())))
}

/// Reads a bytes.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_bytes(
    answer: Option<&Answer>,
    index: usize,
    value: Option<&mut MaybeUninit<Text>>,
    error: Option<&mut Error>,
) -> c_int {
    read(answer, value, error, |answer| Ok(view::text(answer.bytes(index)?)))
}

/// Reads an array.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_tensor(
    answer: Option<&Answer>,
    index: usize,
    value: Option<&mut MaybeUninit<Tensor>>,
    error: Option<&mut Error>,
) -> c_int {
    read(answer, value, error, |answer| match answer.get(index) {
        Some(ValueRef::Tensor(tensor)) => Ok(Tensor::new(tensor)),
        _ => Err(other(answer, index, "ndarray")),
    })
}

/// Copies a list (or an inner tuple) into the caller's memory.
///
/// # Safety
/// `items` has room for `room` items, or is NULL.
unsafe fn copy_list<T>(
    answer: Option<&Answer>,
    index: usize,
    expected: &'static str,
    (items, room): (*mut T, usize),
    count: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
    pick: impl Fn(ValueRef<'_>) -> Option<T>,
) -> c_int {
    read(answer, count, error, |answer| {
        let list = match (answer.get(index), answer.value()) {
            (Some(ValueRef::List(list)), _) => list,
            (Some(ValueRef::Tuple(list)), ValueRef::Tuple(_)) => list,
            _ => return Err(other(answer, index, expected)),
        };
        for (position, item) in list.iter().enumerate() {
            let Some(item) = pick(item) else {
                return Err(AnswerError { index, expected, found: "a list of something else" });
            };
            if position < room && !items.is_null() {
                // SAFETY: before the end of the room that the caller has.
                let place = unsafe { items.add(position) };
                // SAFETY: as above.
                unsafe { place.write(item) };
            }
        }
        Ok(list.len())
    })
}

/// Copies a list of bool: writes as many as there is room for. `count` gets how many there are.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_answer_bools(
    answer: Option<&Answer>,
    index: usize,
    items: *mut bool,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
) -> c_int {
    let pick = |value: ValueRef<'_>| match value {
        ValueRef::Bool(value) => Some(value),
        _ => None,
    };
    // SAFETY: passed on.
    unsafe { copy_list(answer, index, "a list of bool", (items, room), count, error, pick) }
}

/// Copies a list of int: writes as many as there is room for. `count` gets how many there are.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_answer_ints(
    answer: Option<&Answer>,
    index: usize,
    items: *mut i64,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
) -> c_int {
    let pick = |value: ValueRef<'_>| match value {
        ValueRef::Int(value) => Some(value),
        _ => None,
    };
    // SAFETY: passed on.
    unsafe { copy_list(answer, index, "a list of int", (items, room), count, error, pick) }
}

/// Copies a list of float: writes as many as there is room for. `count` gets how many there are.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_answer_floats(
    answer: Option<&Answer>,
    index: usize,
    items: *mut f64,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
) -> c_int {
    let pick = |value: ValueRef<'_>| match value {
        ValueRef::Float(value) => Some(value),
        _ => None,
    };
    // SAFETY: passed on.
    unsafe { copy_list(answer, index, "a list of float", (items, room), count, error, pick) }
}

/// Copies a list of str: writes as many as there is room for; the texts themselves are the answer's. `count`
/// gets how many there are.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_answer_strs(
    answer: Option<&Answer>,
    index: usize,
    items: *mut Text,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
) -> c_int {
    let pick = |value: ValueRef<'_>| match value {
        ValueRef::Str(value) => Some(view::text(value.as_bytes())),
        _ => None,
    };
    // SAFETY: passed on.
    unsafe { copy_list(answer, index, "a list of str", (items, room), count, error, pick) }
}

/// The whole answer as plain structures, whatever is in it. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_answer_view(answer: Option<&mut Answer>) -> *const View {
    shielded(ptr::null(), || {
        answer.map_or(ptr::null(), |answer| {
            if answer.arena.is_empty() {
                answer.arena.fill(answer.returned.value())
            } else {
                answer.arena.root()
            }
        })
    })
}
