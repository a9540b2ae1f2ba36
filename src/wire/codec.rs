//! Reading and writing single values in bincode's standard format.

use bincode::de::BorrowDecode;
use bincode::enc::Encode;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;

type Config = bincode::config::Configuration;

const CONFIG: Config = bincode::config::standard();

/// The largest owned message, in bytes: a slot at its largest.
const MAX_DECODED: usize = 1 << 24;

/// Bytes that are not an encoding of what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Anything that can be written piece by piece through a bincode [`Writer`].
pub(crate) trait EncodeTo {
    /// Appends the encoding of `self` to `writer`.
    ///
    /// # Errors
    /// Whatever the writer says: here always "no room".
    fn encode_to<W: Writer>(&self, writer: &mut W) -> Result<(), EncodeError>;
}

/// Appends one value.
#[inline(always)]
pub(crate) fn put<W: Writer, T: Encode>(writer: &mut W, value: T) -> Result<(), EncodeError> {
    bincode::encode_into_writer(value, writer, CONFIG)
}

/// Encodes one value into a fresh vector.
pub(crate) fn to_vec<T: Encode>(value: T) -> Result<Vec<u8>, EncodeError> {
    bincode::encode_to_vec(value, CONFIG)
}

/// The size of a length or another unsigned number in this format.
#[inline]
pub(crate) const fn unsigned_len(value: u64) -> usize {
    if value <= 250 {
        1
    } else if value <= u16::MAX as u64 {
        3
    } else if value <= u32::MAX as u64 {
        5
    } else {
        9
    }
}

/// The size of a signed number in this format (zigzag, then as an unsigned one).
#[inline]
pub(crate) const fn signed_len(value: i64) -> usize {
    unsigned_len(((value << 1) ^ (value >> 63)) as u64)
}

/// The size of a string or of bytes: their length, then themselves.
#[inline]
pub(crate) const fn bytes_len(len: usize) -> usize {
    unsigned_len(len as u64) + len
}

/// Takes values off the front of private bytes (never of shared ones: what it lends out is
/// `&str` and `&[u8]`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(crate) fn take<T>(&mut self) -> Result<T, Malformed>
    where
        T: BorrowDecode<'a, ()>,
    {
        let (value, read) = bincode::borrow_decode_from_slice::<T, Config>(self.bytes, CONFIG)
            .map_err(|_| Malformed)?;
        self.bytes = self.bytes.get(read..).ok_or(Malformed)?;
        Ok(value)
    }

    /// A length of items that take at least one byte each, so that no length can ask for more
    /// memory than the bytes that are there.
    #[inline]
    pub(crate) fn take_len(&mut self) -> Result<usize, Malformed> {
        let len: u64 = self.take()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.bytes.len() => Ok(len),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes between `self` and the later reader `after`.
    pub(crate) fn up_to(&self, after: &Reader<'a>) -> &'a [u8] {
        let len = self.bytes.len().saturating_sub(after.bytes.len());
        self.bytes.get(..len).unwrap_or_default()
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Decodes a whole message; trailing bytes are malformed.
pub(crate) fn from_slice<T>(bytes: &[u8]) -> Result<T, Malformed>
where
    T: bincode::Decode<()>,
{
    // The limit is on what lengths inside the bytes may claim: bincode makes room for a string
    // before it looks whether the bytes are there.
    let config = CONFIG.with_limit::<MAX_DECODED>();
    match bincode::decode_from_slice::<T, _>(bytes, config) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        _ => Err(Malformed),
    }
}

/// A [`Writer`] into memory that another process can see, so through raw pointers only.
#[derive(Debug)]
pub(crate) struct RawWriter {
    next: *mut u8,
    room: usize,
}

impl RawWriter {
    /// # Safety
    /// `start` must be valid for writes of `room` bytes for as long as the writer lives, and
    /// nothing in this process may hold a reference to them.
    pub(crate) const unsafe fn new(start: *mut u8, room: usize) -> Self {
        Self { next: start, room }
    }

    /// Writes raw bytes.
    pub(crate) fn put(mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.write(bytes)
    }
}

impl Writer for RawWriter {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > self.room {
            return Err(EncodeError::UnexpectedEnd);
        }
        // SAFETY: `new`'s contract makes `next..next + room` writable, and `bytes` is private
        // memory of this process, so the two cannot overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.next, bytes.len()) };
        // SAFETY: `bytes.len() <= room`, so the result is within or one past the same area.
        self.next = unsafe { self.next.add(bytes.len()) };
        self.room -= bytes.len();
        Ok(())
    }
}
