//! The memory of an array, whoever made it, by the buffer protocol.

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;

use nearcall::peer::DType;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// An object's memory, which stays where it is until this is dropped.
///
/// # Invariants
/// `raw` was filled by the object and is not released. With more dimensions than none it has a
/// shape.
pub(crate) struct Buffer<'py> {
    /// On the heap: what an object fills in may point into itself.
    raw: Box<ffi::Py_buffer>,
    _attached: Python<'py>,
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: filled, and released here alone; the thread is attached.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.raw) };
    }
}

/// As [`Buffer`], for longer than an attachment.
///
/// # Invariants
/// As of [`Buffer`].
pub(crate) struct Held(Box<ffi::Py_buffer>);

impl Drop for Held {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: filled, and released here alone; the thread is attached.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
        });
    }
}

/// Whether an object has memory to show.
pub(crate) fn has_memory(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: an object; the thread is attached (`object`).
    unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) != 0 }
}

impl<'py> Buffer<'py> {
    /// # Errors
    /// What the object raises instead of showing its memory.
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let mut raw = Box::new(ffi::Py_buffer::new());
        // SAFETY: an object, and a place that stays; the thread is attached (`py`). With these
        // flags there is no indirection: elements stand at the start plus the strides.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *raw, ffi::PyBUF_RECORDS_RO) }
            != 0
        {
            return Err(PyErr::fetch(py));
        }
        let buffer = Self { raw, _attached: py };
        if buffer.rank() > 0 && buffer.raw.shape.is_null() {
            return Err(PyBufferError::new_err("it has dimensions, but no shape"));
        }
        Ok(buffer)
    }

    /// The number of dimensions.
    pub(crate) fn rank(&self) -> usize {
        usize::try_from(self.raw.ndim).unwrap_or(0)
    }

    /// The extent of each dimension.
    pub(crate) fn shape(&self) -> &[usize] {
        if self.rank() == 0 {
            return &[];
        }
        // SAFETY: the type's invariant: so many, which are not negative.
        unsafe { slice::from_raw_parts(self.raw.shape.cast(), self.rank()) }
    }

    /// How far the elements stand apart in each dimension; `None`: as C order says. (`ctypes` leaves
    /// that out.)
    fn strides(&self) -> Option<&[isize]> {
        if self.raw.strides.is_null() {
            return None;
        }
        // SAFETY: not null, and then one for each dimension.
        Some(unsafe { slice::from_raw_parts(self.raw.strides, self.rank()) })
    }

    /// What the elements are, in the language of the `struct` module.
    pub(crate) fn format(&self) -> &CStr {
        if self.raw.format.is_null() {
            // So it is defined.
            return c"B";
        }
        // SAFETY: not null, and then it ends with NUL, and lives as long as the buffer.
        unsafe { CStr::from_ptr(self.raw.format) }
    }

    /// The type of the elements, if a tensor can have it.
    pub(crate) fn dtype(&self) -> Option<DType> {
        let dtype = dtype_of(self.format().to_bytes())?;
        (self.raw.itemsize == dtype.size().cast_signed()).then_some(dtype)
    }

    /// The bytes of all elements; `None` if no tensor can have so many.
    pub(crate) fn len(&self) -> Option<usize> {
        let size = self.raw.itemsize.max(1).cast_unsigned();
        bytes_of(size, self.shape())
    }

    /// How many dimensions there are in front of those that stand together, which are the last; and
    /// how many bytes these take.
    fn pieces(&self) -> (usize, usize) {
        let (shape, strides) = (self.shape(), self.strides());
        let mut piece = self.raw.itemsize.max(0).cast_unsigned();
        let mut outer = self.rank();
        while let Some(last) = outer.checked_sub(1)
            && (shape[last] == 1 || strides.is_none_or(|all| all[last] == piece.cast_signed()))
        {
            piece *= shape[last];
            outer = last;
        }
        (outer, piece)
    }

    /// All elements where they are, if there are any and they stand together in C order.
    pub(crate) fn whole(&self) -> Option<NonNull<[u8]>> {
        if self.shape().contains(&0) {
            return None;
        }
        let (0, bytes) = self.pieces() else { return None };
        Some(NonNull::slice_from_raw_parts(NonNull::new(self.start().cast_mut())?, bytes))
    }

    /// Keeps the memory where it is for longer.
    pub(crate) fn hold(self) -> Held {
        let this = ManuallyDrop::new(self);
        // SAFETY: read once, and never dropped there.
        Held(unsafe { ptr::read(&raw const this.raw) })
    }

    /// Hands the elements out in C order, in as few pieces as their places in memory allow.
    pub(crate) fn elements(&self, mut take: impl FnMut(&[u8])) {
        let (shape, strides) = (self.shape(), self.strides());
        if shape.contains(&0) {
            return;
        }
        let (outer, piece) = self.pieces();
        let (shape, strides) = (&shape[..outer], strides.map_or(&[][..], |all| &all[..outer]));
        match (outer, piece) {
            // Elements alone: a call for each would take longer than its copy.
            (1.., 1) => self.gather::<1>(shape, strides, take),
            (1.., 2) => self.gather::<2>(shape, strides, take),
            (1.., 4) => self.gather::<4>(shape, strides, take),
            (1.., 8) => self.gather::<8>(shape, strides, take),
            _ => walk(self.start(), shape, strides, &mut |at| self.copy(at, piece, &mut take)),
        }
    }

    /// Hands a piece out, a part at a time, as copies: another thread of the model's may write to it
    /// without the GIL, and another process to a tensor in place, so no reference to it may exist.
    fn copy(&self, start: *const u8, bytes: usize, take: &mut impl FnMut(&[u8])) {
        let mut part = [0; 4096];
        let mut done = 0;
        while done < bytes {
            let len = part.len().min(bytes - done);
            // SAFETY: inside the piece.
            let from = unsafe { start.add(done) };
            // SAFETY: the buffer's own shape and strides have led to the piece: elements stand there.
            // `len` bytes are left of it, and fit.
            unsafe { from.copy_to_nonoverlapping(part.as_mut_ptr(), len) };
            take(&part[..len]);
            done += len;
        }
    }

    /// Hands pieces of `N` bytes out, many at once.
    fn gather<const N: usize>(
        &self,
        shape: &[usize],
        strides: &[isize],
        mut take: impl FnMut(&[u8]),
    ) {
        let mut gathered = [[0; N]; 512];
        let mut len = 0;
        walk(self.start(), shape, strides, &mut |at| {
            // SAFETY: as for longer pieces; bytes may stand at any address.
            gathered[len] = unsafe { at.cast::<[u8; N]>().read() };
            len += 1;
            if len == gathered.len() {
                take(gathered.as_flattened());
                len = 0;
            }
        });
        take(gathered[..len].as_flattened());
    }

    fn start(&self) -> *const u8 {
        self.raw.buf.cast::<u8>().cast_const()
    }
}

/// Visits the place of each index, the last one varying fastest.
fn walk(start: *const u8, shape: &[usize], strides: &[isize], visit: &mut impl FnMut(*const u8)) {
    let place = |index: usize, stride: isize| {
        start.wrapping_offset(stride.wrapping_mul(index.cast_signed()))
    };
    match (shape, strides) {
        ([extent], [stride]) => (0..*extent).for_each(|index| visit(place(index, *stride))),
        ([extent, shape @ ..], [stride, strides @ ..]) => {
            (0..*extent).for_each(|index| walk(place(index, *stride), shape, strides, visit));
        }
        _ => visit(start),
    }
}

/// What a format of the `struct` module says, if it is a number in this machine's byte order.
fn dtype_of(format: &[u8]) -> Option<DType> {
    let (is_standard, code) = match format {
        [code] | [b'@', code] => (false, code),
        [b'=', code] => (true, code),
        [b'<', code] if cfg!(target_endian = "little") => (true, code),
        _ => return None,
    };
    Some(match code {
        b'?' => DType::Bool,
        b'b' => DType::I8,
        b'B' => DType::U8,
        b'h' => DType::I16,
        b'H' => DType::U16,
        b'i' => DType::I32,
        b'I' => DType::U32,
        // A C `long` has 4 bytes in the standard sizes, and 8 on 64-bit Linux.
        b'l' if is_standard => DType::I32,
        b'L' if is_standard => DType::U32,
        b'l' | b'q' => DType::I64,
        b'L' | b'Q' => DType::U64,
        b'e' => DType::F16,
        b'f' => DType::F32,
        b'd' => DType::F64,
        _ => return None,
    })
}

/// The bytes of so many elements; `None` if no tensor can have so many.
fn bytes_of(size: usize, shape: &[usize]) -> Option<usize> {
    // As numpy and the host do: an extent of zero makes the others no smaller.
    let bytes = shape.iter().try_fold(size, |bytes, extent| bytes.checked_mul(*extent.max(&1)))?;
    isize::try_from(bytes).ok()?;
    Some(if shape.contains(&0) { 0 } else { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_a_number_of_this_machine_or_refused() {
        for (format, expected) in [
            ("?", Some(DType::Bool)),
            ("B", Some(DType::U8)),
            ("@h", Some(DType::I16)),
            ("l", Some(DType::I64)),
            ("@L", Some(DType::U64)),
            ("=l", Some(DType::I32)),
            ("<L", Some(DType::U32)),
            ("<q", Some(DType::I64)),
            ("=e", Some(DType::F16)),
            (">f", None),
            ("!f", None),
            ("c", None),
            ("g", None),
            ("Zd", None),
            ("O", None),
            ("3s", None),
            ("T{i:a:}", None),
            ("ff", None),
            ("<", None),
            ("", None),
        ] {
            assert_eq!(dtype_of(format.as_bytes()), expected, "{format:?}");
        }
    }

    #[test]
    fn a_shape_that_no_memory_holds_has_no_size() {
        assert_eq!(bytes_of(8, &[]), Some(8));
        assert_eq!(bytes_of(4, &[3, 2]), Some(24));
        assert_eq!(bytes_of(4, &[3, 0, 2]), Some(0));
        assert_eq!(bytes_of(1, &[usize::MAX / 2]), Some(usize::MAX / 2));
        for shape in [[1 << 62, 1], [1 << 61, 1], [0, 1 << 62], [1 << 40, 1 << 40]] {
            assert_eq!(bytes_of(4, &shape), None, "{shape:?}");
        }
    }
}
