//! `nearcall_task`: the arguments of a call.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use engine::{Arg, Task as Arguments, Value as Any};

use crate::failure::{Failure, guard, shielded};
use crate::input::{self, Text};
use crate::value::{self, Value};

/// The arguments of a call, in the order of the engine's parameters. The caller's.
///
/// Lists and texts are not copied: they must stay where they are, unchanged, until the task is cleared or freed,
/// or is not submitted any more. Bytes, arrays and values are copied.
///
/// Threads may submit the same task at once, while none changes it.
#[derive(Debug, Default)]
pub struct Task {
    /// Borrows from the caller, and from the two below, for as long as there are arguments in it.
    arguments: Arguments<'static>,
    /// The lists of texts, one for each of the first `lists` such arguments. Their memory is used again.
    texts: Vec<Vec<&'static str>>,
    lists: usize,
    values: Vec<Arc<Any>>,
    /// What was wrong first: such a task is not submitted.
    misuse: Option<String>,
}

impl Task {
    /// The arguments, if all of them are some.
    #[inline]
    pub(crate) fn arguments(&self) -> Result<&Arguments<'static>, Failure> {
        match &self.misuse {
            None => Ok(&self.arguments),
            Some(misuse) => Err(wrong_task(misuse)),
        }
    }

    fn push_value(&mut self, value: Arc<Any>) {
        // SAFETY: the value lives for as long as its `Arc` does, which is in `values` until the
        // arguments are gone, and is not changed there: `Value` makes itself a copy for that.
        let borrowed: &'static Any = unsafe { &*Arc::as_ptr(&value) };
        self.values.push(value);
        self.arguments.push(Arg::Value(borrowed));
    }
}

#[cold]
fn wrong_task(misuse: &str) -> Failure {
    Failure::Misuse(format!("the task has an argument that is none: {misuse}").into())
}

/// Adds an argument, and keeps in mind what was wrong.
#[inline]
fn add(task: Option<&mut Task>, add: impl FnOnce(&mut Task) -> Result<(), Failure>) -> c_int {
    guard(None, || {
        let task = task.ok_or_else(|| Failure::null("the task"))?;
        add(task).inspect_err(|failure| {
            task.misuse.get_or_insert_with(|| failure.message());
        })
    })
}

#[inline]
fn push(task: Option<&mut Task>, arg: Arg<'static>) -> c_int {
    add(task, |task| {
        task.arguments.push(arg);
        Ok(())
    })
}

/// Makes a task without arguments, to be freed with nearcall_task_free().
///
/// The functions that add an argument return a nearcall_flag. There is no need to look at it: a task that has
/// got an argument which is none is not submitted, and the error of that says which it was.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_new() -> Option<Box<Task>> {
    shielded(None, || Some(Box::default()))
}

/// Frees a task. NULL is nothing to free. What was submitted goes on.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_free(task: Option<Box<Task>>) {
    shielded((), || drop(task));
}

/// Takes all arguments away. The memory stays, for the next ones: a task that is used again and again
/// allocates nothing.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_clear(task: Option<&mut Task>) -> c_int {
    guard(None, || {
        let task = task.ok_or_else(|| Failure::null("the task"))?;
        task.arguments.clear();
        task.lists = 0;
        task.values.clear();
        task.misuse = None;
        Ok(())
    })
}

/// Adds a bool.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_bool(task: Option<&mut Task>, value: bool) -> c_int {
    push(task, Arg::Bool(value))
}

/// Adds an int.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_int(task: Option<&mut Task>, value: i64) -> c_int {
    push(task, Arg::Int(value))
}

/// Adds a float.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_float(task: Option<&mut Task>, value: f64) -> c_int {
    push(task, Arg::Float(value))
}

/// Adds a str of `len` bytes of UTF-8. Not copied.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_task_str(
    task: Option<&mut Task>,
    data: *const c_char,
    len: usize,
) -> c_int {
    add(task, |task| {
        // SAFETY: the caller's promise, for as long as the task has it.
        let text = unsafe { input::text("the str", data, len) }?;
        task.arguments.push(Arg::Str(text));
        Ok(())
    })
}

/// Adds a list of bool. Not copied.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_task_bools(
    task: Option<&mut Task>,
    items: *const bool,
    count: usize,
) -> c_int {
    add(task, |task| {
        // SAFETY: the caller's promise, for as long as the task has it.
        let items = unsafe { input::bools("the list of bool", items, count) }?;
        task.arguments.push(Arg::Bools(items));
        Ok(())
    })
}

/// Adds a list of int. Not copied.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_task_ints(
    task: Option<&mut Task>,
    items: *const i64,
    count: usize,
) -> c_int {
    add(task, |task| {
        // SAFETY: the caller's promise, for as long as the task has it.
        let items = unsafe { input::items("the list of int", items, count) }?;
        task.arguments.push(Arg::Ints(items));
        Ok(())
    })
}

/// Adds a list of float. Not copied.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_task_floats(
    task: Option<&mut Task>,
    items: *const f64,
    count: usize,
) -> c_int {
    add(task, |task| {
        // SAFETY: the caller's promise, for as long as the task has it.
        let items = unsafe { input::items("the list of float", items, count) }?;
        task.arguments.push(Arg::Floats(items));
        Ok(())
    })
}

/// Adds a list of str. The texts are not copied; the array of them is, and can go.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_task_strs(
    task: Option<&mut Task>,
    items: *const Text,
    count: usize,
) -> c_int {
    add(task, |task| {
        // SAFETY: the caller's promise.
        let items = unsafe { input::items("the list of str", items, count) }?;
        if task.lists == task.texts.len() {
            task.texts.push(Vec::new());
        }
        let Some(texts) = task.texts.get_mut(task.lists) else { return Ok(()) };
        texts.clear();
        for item in items {
            // SAFETY: the caller's promise, for as long as the task has it.
            texts.push(unsafe { input::text("an item of the list of str", item.data, item.len) }?);
        }
        // SAFETY: this list is not touched again until the arguments are gone, its items stay where they are
        // when `texts` grows, and goes with the task.
        let list: &'static [&'static str] = unsafe { input::items("", texts.as_ptr(), count) }?;
        task.lists += 1;
        task.arguments.push(Arg::Strs(list));
        Ok(())
    })
}

/// Adds a bytes, for a parameter of the type NEARCALL_TYPE_VALUE. Copied.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_task_bytes(
    task: Option<&mut Task>,
    data: *const c_void,
    len: usize,
) -> c_int {
    add(task, |task| {
        // SAFETY: the caller's promise.
        let bytes = unsafe { input::items("the bytes", data.cast::<u8>(), len) }?;
        task.push_value(Arc::new(Any::Bytes(bytes.to_vec())));
        Ok(())
    })
}

/// Adds an array, for a parameter of the type NEARCALL_TYPE_VALUE: elements of a nearcall_dtype in C order.
/// Copied; nearcall_reserve() is the way without a copy.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_task_tensor(
    task: Option<&mut Task>,
    dtype: i32,
    shape: *const usize,
    rank: usize,
    data: *const c_void,
    bytes: usize,
) -> c_int {
    add(task, |task| {
        // SAFETY: passed on.
        let tensor = unsafe { value::tensor(dtype, shape, rank, data, bytes) }?;
        task.push_value(Arc::new(Any::Tensor(tensor)));
        Ok(())
    })
}

/// Adds a value of any type, for a parameter of the type NEARCALL_TYPE_VALUE. The task has it as it is now; the
/// caller can free or change it.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_value(task: Option<&mut Task>, value: Option<&Value>) -> c_int {
    add(task, |task| {
        task.push_value(value.ok_or_else(|| Failure::null("the value"))?.shared());
        Ok(())
    })
}

/// Adds the tensor of this number of those that were reserved (nearcall_reserve()), for a parameter of the type
/// NEARCALL_TYPE_VALUE. Such a task goes through nearcall_reserved_submit() or nearcall_reserved_call().
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_task_reserved(task: Option<&mut Task>, index: usize) -> c_int {
    push(task, Arg::Reserved(index))
}
