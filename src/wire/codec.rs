//! Reading and writing single values in bincode's standard format.

use bincode::de::BorrowDecode;
use bincode::enc::Encode;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;

type Config = bincode::config::Configuration;

const CONFIG: Config = bincode::config::standard();

/// What the lengths inside a control message may claim in all, in bytes. An item takes at most 32
/// times as much in memory as in a message.
const MAX_DECODED: usize = 32 * super::MAX_MESSAGE;

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

/// The largest number that the format writes as a single byte of that value; larger ones begin
/// with a byte that says how wide they are.
const MAX_SINGLE: u64 = 250;

/// Appends a length. What fits a byte, as nearly all do, does not go through bincode's machinery
/// (neither here nor below): it is the same byte, and half the time of encoding a small answer.
#[inline(always)]
pub(crate) fn put_len<W: Writer>(writer: &mut W, len: usize) -> Result<(), EncodeError> {
    put_unsigned(writer, len as u64)
}

#[inline(always)]
fn put_unsigned<W: Writer>(writer: &mut W, value: u64) -> Result<(), EncodeError> {
    if value <= MAX_SINGLE { writer.write(&[value as u8]) } else { put(writer, value) }
}

/// Appends an `i64`.
#[inline(always)]
pub(crate) fn put_int<W: Writer>(writer: &mut W, value: i64) -> Result<(), EncodeError> {
    // Unsigned and zigzag numbers are written alike.
    put_unsigned(writer, zigzag(value))
}

/// Appends bytes, or a string, with their length in front.
#[inline(always)]
pub(crate) fn put_bytes<W: Writer>(writer: &mut W, bytes: &[u8]) -> Result<(), EncodeError> {
    put_len(writer, bytes.len())?;
    writer.write(bytes)
}

#[inline]
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Encodes one value into a fresh vector.
pub(crate) fn to_vec<T: Encode>(value: T) -> Result<Vec<u8>, EncodeError> {
    bincode::encode_to_vec(value, CONFIG)
}

/// The size of a length or another unsigned number in this format.
#[inline]
pub(crate) const fn unsigned_len(value: u64) -> usize {
    if value <= MAX_SINGLE {
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
    unsigned_len(zigzag(value))
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

    /// A byte.
    #[inline]
    pub(crate) fn take_byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.bytes.split_first().ok_or(Malformed)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// A `u64`.
    #[inline]
    pub(crate) fn take_unsigned(&mut self) -> Result<u64, Malformed> {
        match self.bytes.split_first() {
            Some((&first, rest)) if u64::from(first) <= MAX_SINGLE => {
                self.bytes = rest;
                Ok(first.into())
            }
            _ => self.take(),
        }
    }

    /// An `i64`.
    #[inline]
    pub(crate) fn take_int(&mut self) -> Result<i64, Malformed> {
        let zigzag = self.take_unsigned()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// An `f64`, every bit of it.
    #[inline]
    pub(crate) fn take_float(&mut self) -> Result<f64, Malformed> {
        let (first, rest) = self.bytes.split_first_chunk().ok_or(Malformed)?;
        self.bytes = rest;
        Ok(f64::from_le_bytes(*first))
    }

    /// Bytes with their length in front.
    #[inline]
    pub(crate) fn take_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.take_len()?;
        self.take_raw(len)
    }

    /// So many bytes.
    #[inline]
    pub(crate) fn take_raw(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.bytes.split_at_checked(len).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(bytes)
    }

    /// A string with its length in front.
    #[inline]
    pub(crate) fn take_str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.take_bytes()?).map_err(|_| Malformed)
    }

    /// A length of items that take at least one byte each, so that no length can ask for more
    /// memory than the bytes that are there.
    #[inline]
    pub(crate) fn take_len(&mut self) -> Result<usize, Malformed> {
        let len = self.take_unsigned()?;
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

/// Decodes a whole control message; trailing bytes are malformed. Not for the bytes of a slot: it
/// makes room for what a length claims, before it looks whether the bytes are there.
pub(crate) fn from_slice<T>(bytes: &[u8]) -> Result<T, Malformed>
where
    T: bincode::Decode<()>,
{
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

/// A [`Writer`] into a vector.
pub(crate) struct IntoVec<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer for IntoVec<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut IntoVec<'_>) -> Result<(), EncodeError>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut IntoVec(&mut bytes)).unwrap();
        bytes
    }

    #[test]
    fn the_short_ways_write_and_read_the_very_bytes_of_bincode() {
        let edges = [0, 1, 2, 125, 126, 249, 250, 251, 252, 255, 256, 65_535, 65_536, 1 << 32];
        for edge in edges.into_iter().chain([u64::MAX >> 1, u64::MAX]) {
            for value in [edge.cast_signed(), -edge.cast_signed()] {
                let bytes = to_vec(value).unwrap();
                assert_eq!(written(|w| put_int(w, value)), bytes, "{value}");
                assert_eq!(bytes.len(), signed_len(value));
                assert_eq!(Reader::new(&bytes).take_int(), Ok(value));
                assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).take_int(), Err(Malformed));
            }
            let bytes = to_vec(edge).unwrap();
            assert_eq!(written(|w| put_unsigned(w, edge)), bytes, "{edge}");
            assert_eq!(bytes.len(), unsigned_len(edge));
            assert_eq!(Reader::new(&bytes).take_unsigned(), Ok(edge));
        }
        for value in [0.0, -0.0, 1.5, f64::NAN, f64::from_bits(0x7FF0_0000_0000_0001), f64::MIN] {
            let bytes = to_vec(value).unwrap();
            let read = Reader::new(&bytes).take_float().unwrap();
            assert_eq!(read.to_bits(), value.to_bits());
            assert_eq!(Reader::new(&bytes[..7]).take_float(), Err(Malformed));
        }
        for text in ["", "a", "ü\0", &"x".repeat(250), &"x".repeat(251), &"x".repeat(70_000)] {
            let bytes = to_vec(text).unwrap();
            assert_eq!(written(|w| put_bytes(w, text.as_bytes())), bytes);
            assert_eq!(Reader::new(&bytes).take_str(), Ok(text));
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).take_str(), Err(Malformed));
        }
        assert_eq!(Reader::new(&[2, 0xC3, 0x28]).take_str(), Err(Malformed), "not UTF-8");
        assert_eq!(Reader::new(&[]).take_byte(), Err(Malformed));
    }
}
