//! What C gives: pointers and lengths, made texts and slices after all checks that can be made.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::slice;

use crate::failure::Failure;

/// A text: so many bytes of UTF-8. It need not end with a NUL, and may have some inside. NULL is the empty
/// text, if its length is 0.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Text {
    /// Its first byte.
    pub data: *const c_char,
    /// How many bytes it has.
    pub len: usize,
}

/// A slice of what the caller points to.
///
/// # Safety
/// If the pointer is not NULL, so many items are there, initialised, and stay there unchanged for as long as
/// the slice is used.
#[inline]
pub(crate) unsafe fn items<'a, T>(
    what: &'static str,
    data: *const T,
    count: usize,
) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::null(what));
    }
    let fits =
        count.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok());
    if !fits || !data.is_aligned() {
        return Err(odd(what, count));
    }
    // SAFETY: neither NULL nor misaligned, of a size that can be; the caller vouches for the rest.
    Ok(unsafe { slice::from_raw_parts(data, count) })
}

#[cold]
fn odd(what: &'static str, count: usize) -> Failure {
    Failure::Misuse(format!("{what}: {count} items at a place where none can be").into())
}

/// A text of the caller's.
///
/// # Safety
/// As for [`items`].
#[inline(always)]
pub(crate) unsafe fn text<'a>(
    what: &'static str,
    data: *const c_char,
    len: usize,
) -> Result<&'a str, Failure> {
    // Nearly all are short and plain, and a task has several: that is looked at here, without a call.
    if len <= SHORT && !data.is_null() {
        // SAFETY: not NULL, a byte needs no alignment, and the caller vouches for the rest.
        let bytes = unsafe { slice::from_raw_parts(data.cast::<u8>(), len) };
        if is_plain(bytes) {
            // SAFETY: ASCII is UTF-8.
            return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
        }
    }
    // SAFETY: passed on.
    unsafe { any_text(what, data, len) }
}

/// Texts that are looked at byte by byte, more or less.
const SHORT: usize = 128;

/// Whether there is nothing but ASCII: by a few words that may overlap, with few branches.
#[inline(always)]
fn is_plain(bytes: &[u8]) -> bool {
    let plain = |word: u64| word & 0x8080_8080_8080_8080 == 0;
    if let Some(last) = bytes.last_chunk() {
        let (words, _) = bytes.as_chunks();
        let all = words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word));
        plain(all | u64::from_ne_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        plain(u64::from(u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)))
    } else if let (Some(first), Some(last)) = (bytes.first(), bytes.last()) {
        // Of three at most, the one between them.
        plain(u64::from(first | bytes[bytes.len() / 2] | last))
    } else {
        true
    }
}

/// As [`text`], for any.
///
/// # Safety
/// As for [`items`].
#[inline(never)]
unsafe fn any_text<'a>(
    what: &'static str,
    data: *const c_char,
    len: usize,
) -> Result<&'a str, Failure> {
    // SAFETY: passed on.
    let bytes = unsafe { items(what, data.cast::<u8>(), len) }?;
    std::str::from_utf8(bytes).map_err(|error| not_utf8(what, error))
}

#[cold]
fn not_utf8(what: &'static str, error: std::str::Utf8Error) -> Failure {
    Failure::Misuse(format!("{what} is not UTF-8: {error}").into())
}

/// A list of `bool`: any other byte than 0 and 1 is none.
///
/// # Safety
/// As for [`items`], but that the bytes can be any.
pub(crate) unsafe fn bools<'a>(
    what: &'static str,
    data: *const bool,
    count: usize,
) -> Result<&'a [bool], Failure> {
    // SAFETY: passed on; a byte can be anything.
    let bytes = unsafe { items(what, data.cast::<u8>(), count) }?;
    if bytes.iter().any(|byte| *byte > 1) {
        return Err(Failure::Misuse(format!("{what} has a bool that is neither 0 nor 1").into()));
    }
    // SAFETY: the same memory, whose bytes are 0 and 1.
    unsafe { items(what, data, count) }
}

/// A name that ends with a NUL, as the system takes it.
///
/// # Safety
/// If it is not NULL, a NUL ends it, and it stays unchanged for as long as the result is used.
pub(crate) unsafe fn name<'a>(
    what: &'static str,
    name: *const c_char,
) -> Result<&'a OsStr, Failure> {
    if name.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: not NULL; the caller vouches for the rest.
    let name = unsafe { CStr::from_ptr(name) };
    Ok(OsStr::from_bytes(name.to_bytes()))
}

/// A name that is UTF-8.
///
/// # Safety
/// As for [`name`].
pub(crate) unsafe fn word<'a>(what: &'static str, word: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: passed on.
    let word = unsafe { name(what, word) }?;
    std::str::from_utf8(word.as_bytes()).map_err(|error| not_utf8(what, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn what_cannot_be_a_slice_is_an_error() {
        let numbers = [1.0_f64, 2.0];
        let odd = numbers.as_ptr().cast::<u8>().wrapping_add(1).cast::<f64>();
        // SAFETY: two numbers are there, and no pointer below is followed that has none.
        let taken = |data: *const f64, count| unsafe { items("x", data, count) };
        assert_eq!(taken(numbers.as_ptr(), 2).unwrap(), [1.0, 2.0]);
        assert!(taken(ptr::null(), 1).is_err());
        assert!(taken(odd, 1).is_err());
        assert!(taken(numbers.as_ptr(), usize::MAX / 4).is_err());
        assert!(taken(ptr::null(), 0).unwrap().is_empty());
    }

    #[test]
    fn a_bool_that_is_none_is_an_error_and_never_a_bool() {
        let bytes = [0_u8, 1, 2];
        // SAFETY: three bytes are there.
        assert!(unsafe { bools("x", bytes.as_ptr().cast(), 3) }.is_err());
        // SAFETY: as above.
        assert_eq!(unsafe { bools("x", bytes.as_ptr().cast(), 2) }.unwrap(), [false, true]);
    }

    #[test]
    fn texts_of_every_length_are_what_they_are() {
        for len in 0..2 * SHORT {
            for (odd, is_text) in [(b'z', true), (0, true), (0x80, false), (0xFF, false)] {
                for place in 0..len {
                    let mut bytes = vec![b'a'; len];
                    bytes[place] = odd;
                    // SAFETY: so many bytes are there.
                    let found = unsafe { text("x", bytes.as_ptr().cast(), len) };
                    assert_eq!(found.ok(), is_text.then(|| str::from_utf8(&bytes).unwrap()));
                }
            }
            // Two bytes for each letter, and one that is cut off.
            let letters = "\u{fc}".repeat(len);
            let data = letters.as_ptr().cast();
            // SAFETY: so many bytes are there.
            assert_eq!(unsafe { text("x", data, letters.len()) }.ok(), Some(letters.as_str()));
            if len > 0 {
                // SAFETY: one less than there are.
                assert!(unsafe { text("x", data, letters.len() - 1) }.is_err());
            }
        }
    }

    #[test]
    fn a_text_that_is_not_utf8_is_an_error() {
        // SAFETY: two bytes are there.
        assert!(unsafe { text("x", b"\xff\xfe".as_ptr().cast(), 2) }.is_err());
        // SAFETY: NULL.
        assert!(unsafe { word("x", ptr::null()) }.is_err());
    }
}
