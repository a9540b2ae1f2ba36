//! `nearcall_error`: what there is to say of a flag.

use std::cell::OnceCell;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;

use crate::failure::{Failure, shielded};

/// What the last function that was given it had to say. The caller's: one for each thread is enough.
/// Not to be used by two threads at once.
#[derive(Debug, Default)]
pub struct Error {
    failure: Option<Failure>,
    /// Made when it is asked for: most callers of a full engine only want the flag. Ends with a NUL.
    message: OnceCell<String>,
    traceback: OnceCell<String>,
    exception: OnceCell<String>,
}

impl Error {
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.failure.is_some() {
            *self = Self::default();
        }
    }

    pub(crate) fn set(&mut self, failure: Failure) {
        *self = Self { failure: Some(failure), ..Self::default() };
    }

    fn message(&self) -> &str {
        self.message.get_or_init(|| {
            let text = self.failure.as_ref().map(Failure::message);
            with_nul(&text.unwrap_or_default())
        })
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        self.message().trim_end_matches('\0')
    }
}

fn with_nul(text: &str) -> String {
    format!("{text}\0")
}

/// Gives C a text that ends with a NUL.
fn give(text: &str, len: Option<&mut MaybeUninit<usize>>) -> *const c_char {
    if let Some(len) = len {
        len.write(text.len() - 1);
    }
    text.as_ptr().cast()
}

/// Makes an error object, to be given to other functions and freed with nearcall_error_free().
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_error_new() -> Option<Box<Error>> {
    shielded(None, || Some(Box::default()))
}

/// Frees an error object. NULL is nothing to free.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_error_free(error: Option<Box<Error>>) {
    shielded((), || drop(error));
}

/// The flag that the last function returned which was given this object: a nearcall_flag.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_error_flag(error: Option<&Error>) -> c_int {
    error.and_then(|error| error.failure.as_ref()).map_or(0, Failure::flag)
}

/// What went wrong: a nearcall_code. 0: nothing.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_error_code(error: Option<&Error>) -> c_int {
    error.and_then(|error| error.failure.as_ref()).map_or(0, Failure::code)
}

/// What went wrong, for people. Ends with a NUL, and is empty if nothing did; `len` (or NULL) gets its
/// length, because Python's messages can have a NUL inside. It is the error's, until that is given to
/// another function or freed.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_error_message(
    error: Option<&Error>,
    len: Option<&mut MaybeUninit<usize>>,
) -> *const c_char {
    give(shielded("\0", || error.map_or("\0", Error::message)), len)
}

/// Python's traceback, as Python prints it: of the model's exception, or of what kept the engine from
/// starting. Empty if there is none. Otherwise as nearcall_error_message().
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_error_traceback(
    error: Option<&Error>,
    len: Option<&mut MaybeUninit<usize>>,
) -> *const c_char {
    let text = shielded("\0", || {
        error.map_or("\0", |error| {
            error.traceback.get_or_init(|| {
                let python = error.failure.as_ref().and_then(Failure::python);
                with_nul(python.map_or("", |python| &python.traceback))
            })
        })
    });
    give(text, len)
}

/// The type of the exception that Python raised, as in "ValueError"; empty if it is no exception.
/// Otherwise as nearcall_error_message().
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_error_exception(
    error: Option<&Error>,
    len: Option<&mut MaybeUninit<usize>>,
) -> *const c_char {
    let text = shielded("\0", || {
        error.map_or("\0", |error| {
            error.exception.get_or_init(|| {
                let python = error.failure.as_ref().and_then(Failure::python);
                with_nul(python.map_or("", |python| &python.kind))
            })
        })
    });
    give(text, len)
}

/// The word of a code, the same in every language: "deadline_passed". "" for a number that is none. It
/// lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_code_word(code: c_int) -> *const c_char {
    // With their NULs: words for C alone are here, all others are checked against the engine's.
    const WORDS: [&str; 20] = [
        "none\0",
        "full\0",
        "mismatch\0",
        "submitted\0",
        "tensor\0",
        "too_large\0",
        "no_shared_memory\0",
        "system\0",
        "closed\0",
        "unavailable\0",
        "forked_child\0",
        "timed_out\0",
        "python\0",
        "refused\0",
        "died\0",
        "deadline_passed\0",
        "cancelled\0",
        "corrupt\0",
        "already_retrieved\0",
        "unknown\0",
    ];
    const FOR_C: [&str; 5] = ["misuse\0", "start\0", "answer\0", "reload\0", "internal\0"];
    let words = if code < 100 { (&WORDS[..], code) } else { (&FOR_C[..], code - 100) };
    let word = usize::try_from(words.1).ok().and_then(|index| words.0.get(index));
    word.map_or(c"".as_ptr(), |word| word.as_ptr().cast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn every_code_has_the_word_of_every_language() {
        let word = |code: c_int| {
            // SAFETY: it ends with a NUL and lives for ever.
            unsafe { CStr::from_ptr(nearcall_code_word(code)) }.to_str().unwrap()
        };
        for code in engine::error::Code::ALL {
            assert_eq!(word(c_int::from(code as u8)), code.as_str());
        }
        assert_eq!((word(0), word(100), word(104)), ("none", "misuse", "internal"));
        assert_eq!((word(-1), word(20), word(99), word(105)), ("", "", "", ""));
    }

    #[test]
    fn without_an_object_there_is_nothing_to_say_and_no_crash() {
        let mut len = MaybeUninit::new(7);
        let text = nearcall_error_message(None, Some(&mut len));
        // SAFETY: it ends with a NUL and lives for ever.
        assert_eq!(unsafe { CStr::from_ptr(text) }, c"");
        // SAFETY: it was given a number above, and perhaps another since.
        assert_eq!(unsafe { len.assume_init() }, 0);
        assert_eq!((nearcall_error_code(None), nearcall_error_flag(None)), (0, 0));
        nearcall_error_free(None);
    }
}
