//! `nearcall_value`: a value of any type, for parameters of the type NEARCALL_TYPE_VALUE.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use engine::{MAX_DEPTH, Tensor as OwnedTensor, Value as Any};

use crate::codes;
use crate::error::Error;
use crate::failure::{Failure, guard, shielded};
use crate::input;

/// A Python value. The caller's. What makes one copies what it is given. Not to be used by two threads at
/// once while one changes it.
#[derive(Debug)]
pub struct Value {
    /// Tasks that were given it have it too: it is copied if it is changed after that.
    value: Arc<Any>,
    /// Containers inside each other.
    depth: usize,
}

impl Value {
    fn new(value: Any) -> Option<Box<Self>> {
        Some(Box::new(Self { value: Arc::new(value), depth: 0 }))
    }

    fn container(value: Any) -> Option<Box<Self>> {
        Some(Box::new(Self { value: Arc::new(value), depth: 1 }))
    }

    pub(crate) fn shared(&self) -> Arc<Any> {
        Arc::clone(&self.value)
    }

    /// Makes room for an item as deep as this: what is deeper could not be freed without an end to the stack.
    fn admit(&mut self, item: &Self) -> Result<(), Failure> {
        if item.depth >= MAX_DEPTH {
            let text = format!("more than {MAX_DEPTH} containers inside each other");
            return Err(Failure::Misuse(text.into()));
        }
        self.depth = self.depth.max(item.depth + 1);
        Ok(())
    }

    fn into_value(self) -> Any {
        Arc::unwrap_or_clone(self.value)
    }
}

/// How deep a value is that was not put together here.
fn depth_of(value: &Any) -> usize {
    match value {
        Any::List(items) | Any::Tuple(items) => {
            1 + items.iter().map(depth_of).max().unwrap_or_default()
        }
        Any::Dict(items) => {
            1 + items.iter().map(|(_, item)| depth_of(item)).max().unwrap_or_default()
        }
        _ => 0,
    }
}

/// A number without fraction and exponent that is no int of 64 bits: the parser makes a float of it. `json` is
/// such a text.
fn too_large_int(json: &str) -> Option<&str> {
    let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = rest.get(start..)?;
        if let Some(text) = rest.strip_prefix('"') {
            let mut is_escaped = false;
            let end = text.find(|c: char| {
                let is_end = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            })?;
            rest = text.get(end + 1..)?;
        } else {
            let (number, behind) =
                rest.split_at(rest.find(|c| !is_of_number(c)).unwrap_or(rest.len()));
            let is_whole = !number.contains(['.', 'e', 'E']);
            if is_whole && number.parse::<i64>().is_err() {
                return Some(number);
            }
            rest = behind;
        }
    }
    None
}

/// Frees a value. NULL is nothing to free.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_free(value: Option<Box<Value>>) {
    shielded((), || drop(value));
}

/// None. This and the functions below give a value that is the caller's, to be freed with
/// nearcall_value_free() or put into another.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_none() -> Option<Box<Value>> {
    shielded(None, || Value::new(Any::None))
}

/// A bool.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_bool(value: bool) -> Option<Box<Value>> {
    shielded(None, || Value::new(Any::Bool(value)))
}

/// An int.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_int(value: i64) -> Option<Box<Value>> {
    shielded(None, || Value::new(Any::Int(value)))
}

/// A float.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_float(value: f64) -> Option<Box<Value>> {
    shielded(None, || Value::new(Any::Float(value)))
}

/// A str of `len` bytes of UTF-8. NULL if it is none.
///
/// # Safety
/// The pointer is as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_value_str(data: *const c_char, len: usize) -> Option<Box<Value>> {
    shielded(None, || {
        // SAFETY: the caller's promise.
        let text = unsafe { input::text("the str", data, len) }.ok()?;
        Value::new(Any::Str(text.to_owned()))
    })
}

/// A bytes of `len` bytes. NULL if there are none.
///
/// # Safety
/// The pointer is as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_value_bytes(
    data: *const c_void,
    len: usize,
) -> Option<Box<Value>> {
    shielded(None, || {
        // SAFETY: the caller's promise.
        let bytes = unsafe { input::items("the bytes", data.cast::<u8>(), len) }.ok()?;
        Value::new(Any::Bytes(bytes.to_vec()))
    })
}

/// An array: elements of a nearcall_dtype in C order, `bytes` bytes of them. NULL for a shape that does not
/// have as many, or that no array has; at most 32 dimensions.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_value_tensor(
    dtype: i32,
    shape: *const usize,
    rank: usize,
    data: *const c_void,
    bytes: usize,
) -> Option<Box<Value>> {
    shielded(None, || {
        // SAFETY: passed on.
        let tensor = unsafe { tensor(dtype, shape, rank, data, bytes) }.ok()?;
        Value::new(Any::Tensor(tensor))
    })
}

/// A copy of the caller's array.
///
/// # Safety
/// As for [`input::items`], of both.
pub(crate) unsafe fn tensor(
    dtype: i32,
    shape: *const usize,
    rank: usize,
    data: *const c_void,
    bytes: usize,
) -> Result<OwnedTensor, Failure> {
    let dtype = codes::dtype(dtype)
        .ok_or_else(|| Failure::Misuse(format!("{dtype} is no nearcall_dtype").into()))?;
    // SAFETY: the caller's promise.
    let shape = unsafe { input::items("the shape", shape, rank) }?;
    // SAFETY: the caller's promise.
    let data = unsafe { input::items("the elements", data.cast::<u8>(), bytes) }?;
    OwnedTensor::from_bytes(dtype, shape, data.to_vec())
        .map_err(|error| Failure::Misuse(error.to_string().into()))
}

/// An empty list.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_list() -> Option<Box<Value>> {
    shielded(None, || Value::container(Any::List(Vec::new())))
}

/// An empty tuple.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_tuple() -> Option<Box<Value>> {
    shielded(None, || Value::container(Any::Tuple(Vec::new())))
}

/// An empty dict.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_dict() -> Option<Box<Value>> {
    shielded(None, || Value::container(Any::Dict(Vec::new())))
}

/// What a JSON text says: objects are dicts, arrays lists, numbers without fraction and exponent ints. NULL,
/// and the reason in the error, if it is no JSON, has an int of more than 64 bits, or more than 64 containers
/// inside each other.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_value_json(
    json: *const c_char,
    len: usize,
    error: Option<&mut Error>,
) -> Option<Box<Value>> {
    let mut made = None;
    guard(error, || {
        // SAFETY: the caller's promise.
        let json = unsafe { input::text("the JSON", json, len) }?;
        let value: Any = serde_json::from_str(json)
            .map_err(|error| Failure::Misuse(format!("this is no JSON: {error}").into()))?;
        if let Some(number) = too_large_int(json) {
            let text = format!("{number} does not fit an int of 64 signed bits");
            return Err(Failure::Misuse(text.into()));
        }
        // Not more than `MAX_DEPTH`: values are read no deeper.
        let depth = depth_of(&value);
        made = Some(Box::new(Value { value: Arc::new(value), depth }));
        Ok(())
    });
    made
}

/// Puts an item at the end of a list or tuple. The item is used up, also if this is an error: for something
/// that is neither, for NULL, and for more than 64 containers inside each other.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_value_push(
    container: Option<&mut Value>,
    item: Option<Box<Value>>,
) -> c_int {
    guard(None, || {
        let container = container.ok_or_else(|| Failure::null("the container"))?;
        let item = item.ok_or_else(|| Failure::null("the item"))?;
        if !matches!(*container.value, Any::List(_) | Any::Tuple(_)) {
            return Err(Failure::Misuse("only lists and tuples have items".into()));
        }
        container.admit(&item)?;
        if let Any::List(items) | Any::Tuple(items) = Arc::make_mut(&mut container.value) {
            items.push(item.into_value());
        }
        Ok(())
    })
}

/// Puts a pair at the end of a dict. The item is used up, also if this is an error: for something that is no
/// dict, for NULL, for a key that is not UTF-8 or there already, and for more than 64 containers inside each
/// other.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_value_insert(
    dict: Option<&mut Value>,
    key: *const c_char,
    key_len: usize,
    item: Option<Box<Value>>,
) -> c_int {
    guard(None, || {
        let dict = dict.ok_or_else(|| Failure::null("the dict"))?;
        let item = item.ok_or_else(|| Failure::null("the item"))?;
        // SAFETY: the caller's promise.
        let key = unsafe { input::text("the key", key, key_len) }?;
        let Any::Dict(pairs) = &*dict.value else {
            return Err(Failure::Misuse("only dicts have keys".into()));
        };
        if pairs.iter().any(|(other, _)| other == key) {
            return Err(Failure::Misuse(format!("the key {key:?} is there already").into()));
        }
        dict.admit(&item)?;
        if let Any::Dict(pairs) = Arc::make_mut(&mut dict.value) {
            pairs.push((key.to_owned(), item.into_value()));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_int_that_is_too_large_is_no_float() {
        let fits = i64::MAX.to_string();
        for json in
            ["1", "[-9223372036854775808]", &fits, "1e30", "1.5", "99999999999999999999.0", "-0"]
        {
            assert_eq!(too_large_int(json), None, "{json}");
        }
        for json in
            [r#""99999999999999999999""#, r#"{"a\\\"99999999999999999999":[1,2]}"#, r#""\\""#]
        {
            assert_eq!(too_large_int(json), None, "{json}");
        }
        for json in [r#"{"1\"":[0.5,99999999999999999999]}"#, r#"["\\",99999999999999999999,"x"]"#]
        {
            assert_eq!(too_large_int(json), Some("99999999999999999999"), "{json}");
        }
        let json = "[12345678901234567890123]";
        let mut error = Error::default();
        // SAFETY: so many bytes are there.
        let value =
            unsafe { nearcall_value_json(json.as_ptr().cast(), json.len(), Some(&mut error)) };
        assert!(value.is_none() && error.text().contains("64 signed bits"), "{}", error.text());
    }
}
