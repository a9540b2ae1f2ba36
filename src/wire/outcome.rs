//! What a worker writes back: a value, a Python error, or why there can be neither.

use std::borrow::Cow;
use std::fmt;
use std::ptr::NonNull;

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::{Decode, Encode};

use super::codec::{EncodeTo, Malformed, Reader, put};
use super::placed::{self, SpliceError, splice};
use super::tensor::DType;
use super::value::{self, Value, ValueRef};

/// The first byte of an outcome.
mod tag {
    pub(super) const VALUE: u8 = 0;
    pub(super) const PYTHON: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
}

/// Texts of an error are cut to this many bytes each, so that an error always fits somewhere.
const MAX_ERROR_TEXT: usize = 32 * 1024;

/// The largest buffer that is kept for the next answer, in bytes.
const KEPT: usize = 1 << 20;

/// An exception that Python code raised.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct PythonError {
    /// The exception's type: its qualified name, with its module unless that is `builtins`.
    pub kind: String,
    /// `str(exception)`.
    pub message: String,
    /// The formatted traceback, innermost call last, as Python prints it; its beginning is cut
    /// when it is longer than there is room for.
    pub traceback: String,
}

impl PythonError {
    /// An error without a traceback, as a Rust handler raises it.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), traceback: String::new() }
    }

    /// Reads what `Encode` has written. Not by `Decode`, which makes room for lengths that the bytes
    /// do not have.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut text = || reader.take_str().map(str::to_owned);
        Ok(Self { kind: text()?, message: text()?, traceback: text()? })
    }

    /// The traceback, which ends with type and message; these alone if there is none.
    pub fn in_full(&self) -> Cow<'_, str> {
        if self.traceback.is_empty() {
            Cow::Owned(self.to_string())
        } else {
            Cow::Borrowed(self.traceback.trim_end())
        }
    }

    /// Cuts the texts so that the encoding takes at most `room` bytes: of the traceback the
    /// beginning goes first, of the message the end.
    pub(crate) fn fit(&mut self, room: usize) {
        // Three lengths of at most five bytes each.
        let mut left = room.min(3 * MAX_ERROR_TEXT).saturating_sub(16);
        cut_end(&mut self.kind, left.min(256));
        left -= self.kind.len().min(left);
        cut_end(&mut self.message, left.min(MAX_ERROR_TEXT) / 2);
        left -= self.message.len().min(left);
        cut_start(&mut self.traceback, left.min(MAX_ERROR_TEXT));
    }
}

fn cut_end(text: &mut String, room: usize) {
    if text.len() > room {
        let mut end = room;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

fn cut_start(text: &mut String, room: usize) {
    const MARK: &str = "[...]\n";
    if text.len() > room {
        let mut start = text.len() - room.saturating_sub(MARK.len());
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text.replace_range(..start, if room >= MARK.len() { MARK } else { "" });
    }
}

/// Why a model's answer could not be carried.
#[derive(Debug, Clone, PartialEq, Eq, Encode)]
#[non_exhaustive]
pub enum Refusal {
    /// A value whose type has no place in an answer, or a value that its type's place cannot hold.
    Unsupported {
        /// Python's name of the type, with its module unless that is `builtins`.
        type_name: String,
        /// What is wrong with it.
        reason: String,
        /// Where it stood, as an expression on the answer: `answer[1]['x']`.
        place: String,
    },
    /// An answer larger than any can be.
    TooLarge {
        /// Bytes that the encoded answer takes.
        needed: u64,
        /// Bytes that the largest can have.
        room: u64,
    },
    /// The task's bytes do not fit the signature: something wrote into the slot that should not.
    MalformedTask,
    /// The answer does not fit the slot, and there is no shared memory left for it.
    NoSharedMemory {
        /// Bytes that the encoded answer takes.
        needed: u64,
        /// Bytes that were free.
        available: u64,
        /// Bytes that /dev/shm has in all.
        total: u64,
    },
    /// The model has kept an array of a task's beyond its call: in a global, an attribute, a view of it,
    /// a reference cycle. What it keeps is its own copy now; what it has computed is not worth much if
    /// it was to come from the next task's.
    Kept {
        /// The arguments that were kept, by name.
        arguments: String,
    },
    /// The worker could not have the task's bytes, or hand the answer over: the system, or something in
    /// its process, was in the way.
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        reason: String,
    },
}

impl Refusal {
    /// Reads what `Encode` has written, as [`PythonError::read`] does.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.take_unsigned()? {
            0 => {
                let mut text = || reader.take_str().map(str::to_owned);
                Self::Unsupported { type_name: text()?, reason: text()?, place: text()? }
            }
            1 => Self::TooLarge { needed: reader.take_unsigned()?, room: reader.take_unsigned()? },
            2 => Self::MalformedTask,
            3 => {
                let mut number = || reader.take_unsigned();
                Self::NoSharedMemory { needed: number()?, available: number()?, total: number()? }
            }
            4 => Self::Kept { arguments: reader.take_str()?.to_owned() },
            5 => {
                let mut text = || reader.take_str().map(str::to_owned);
                Self::System { action: text()?, reason: text()? }
            }
            _ => return Err(Malformed),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { type_name, reason, place } => {
                write!(f, "{place} is a {type_name}: {reason}")
            }
            Self::TooLarge { needed, room } => write!(
                f,
                "the answer takes {needed} bytes, there is room for {room}: raise payload_bytes or \
                 return less"
            ),
            Self::NoSharedMemory { needed, available, total } => write!(
                f,
                "the answer takes {needed} bytes of shared memory, /dev/shm has {available} of {total} \
                 bytes free: return less, or give the container more (docker run --shm-size)"
            ),
            Self::Kept { arguments } => write!(
                f,
                "the model has kept argument {arguments}, or a view of it, beyond its call: let it go, \
                 or keep a copy (numpy.array(x), bytes(x))"
            ),
            Self::System { action, reason } => write!(f, "the worker could not {action}: {reason}"),
            Self::MalformedTask => f.write_str("the task's bytes do not fit the signature"),
        }
    }
}

/// Where a handler puts its answer: memory of the worker's own, copied into the slot at the end.
///
/// Writing never fails. What goes beyond the slot is counted, not kept, so that the error can
/// tell how much room the answer would have needed.
#[derive(Debug)]
pub struct AnswerBuf {
    bytes: Vec<u8>,
    limit: usize,
    /// What an error, or a refusal, is cut to: it must not depend on memory that there may not be.
    error_limit: usize,
    needed: usize,
    /// What is copied only when the answer is handed over: each stands behind so many of `bytes`.
    lent: Vec<(usize, NonNull<[u8]>)>,
}

impl AnswerBuf {
    /// A buffer for answers of at most `limit` encoded bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(limit.min(64 * 1024)),
            limit,
            error_limit: limit,
            needed: 0,
            lent: Vec::new(),
        }
    }

    /// Cuts errors to `limit` bytes.
    pub(crate) fn with_error_limit(mut self, limit: usize) -> Self {
        self.error_limit = limit;
        self
    }

    /// Forgets what was written and starts an answer: exactly one value must follow.
    #[inline]
    pub fn start_value(&mut self) {
        self.clear();
        let _ = put(self, tag::VALUE);
    }

    /// Writes a whole value, children included.
    ///
    /// Containers deeper than [`MAX_DEPTH`](value::MAX_DEPTH) make it a refusal.
    pub fn value(&mut self, value: &Value) {
        if value.is_deeper_than(value::MAX_DEPTH) {
            return self.refuse(Refusal::Unsupported {
                type_name: "list".to_owned(),
                reason: format!("it is nested deeper than {}", value::MAX_DEPTH),
                place: "answer".to_owned(),
            });
        }
        let _ = value.encode_to(self);
    }

    /// Writes `None`.
    #[inline]
    pub fn none(&mut self) {
        let _ = value::write_none(self);
    }

    /// Writes a `bool`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        let _ = value::write_bool(self, value);
    }

    /// Writes an `int`.
    #[inline]
    pub fn int(&mut self, value: i64) {
        let _ = value::write_int(self, value);
    }

    /// Writes a `float`.
    #[inline]
    pub fn float(&mut self, value: f64) {
        let _ = value::write_float(self, value);
    }

    /// Writes a `str`.
    #[inline]
    pub fn str(&mut self, value: &str) {
        let _ = value::write_str(self, value);
    }

    /// Writes a `bytes`.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        let _ = value::write_bytes(self, value);
    }

    /// Starts a `list`: exactly `len` values must follow.
    #[inline]
    pub fn list(&mut self, len: usize) {
        let _ = value::write_list(self, len);
    }

    /// Starts a `tuple`: exactly `len` values must follow.
    #[inline]
    pub fn tuple(&mut self, len: usize) {
        let _ = value::write_tuple(self, len);
    }

    /// Starts a `dict`: exactly `len` times a [`key`](Self::key) and a value must follow.
    #[inline]
    pub fn dict(&mut self, len: usize) {
        let _ = value::write_dict(self, len);
    }

    /// Writes a key of a `dict`.
    #[inline]
    pub fn key(&mut self, key: &str) {
        let _ = value::write_key(self, key);
    }

    /// Starts a tensor of at most [`MAX_RANK`](super::MAX_RANK) dimensions. Its elements must follow
    /// ([`elements`](Self::elements)), in C order, as many bytes as type and shape say.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize]) {
        let _ = value::write_tensor(self, dtype, shape);
    }

    /// Makes room for so many bytes of a tensor's elements. `false`: an answer has no room for them.
    /// They are counted then, and must not be written: nobody should copy what nobody gets.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let needed = self.needed.saturating_add(bytes);
        let fits = needed <= self.limit;
        if fits {
            self.bytes.reserve(bytes);
        } else {
            self.needed = needed;
        }
        fits
    }

    /// Names a tensor of this shape that the handler has written where the task has room for it
    /// ([`InPlace::output_at`](crate::peer::InPlace::output_at) says where that is), as a value.
    pub fn placed(&mut self, dtype: DType, shape: &[usize], offset: u64) {
        let _ = value::write_placed_tag(self)
            .and_then(|()| placed::write(self, dtype, shape, true, offset));
    }

    /// Whether so many bytes of elements are better lent than written: they do not fit the slot, and
    /// go from where they are to the host's memory without a stop in between.
    #[inline]
    pub fn lends(&self, bytes: usize) -> bool {
        bytes > self.error_limit
    }

    /// Has elements of a tensor read where they are, when the answer is handed over. Instead of
    /// [`elements`](Self::elements).
    ///
    /// # Safety
    /// The bytes must stay readable until [`Handler::tidy`](crate::peer::Handler::tidy) is called, or
    /// the next answer is started.
    pub unsafe fn lend(&mut self, bytes: NonNull<[u8]>) {
        self.needed = self.needed.saturating_add(bytes.len());
        if self.needed <= self.limit {
            self.lent.push((self.bytes.len(), bytes));
        }
    }

    /// Writes elements of a tensor, as bytes in this machine's order.
    #[inline]
    pub fn elements(&mut self, bytes: &[u8]) {
        let _ = self.write(bytes);
    }

    /// Replaces whatever was written by an exception, cut to fit.
    pub fn python_error(&mut self, mut error: PythonError) {
        self.clear();
        error.fit(self.error_limit.saturating_sub(1));
        let _ = put(self, tag::PYTHON);
        let _ = put(self, error);
    }

    /// Replaces whatever was written by the reason why there is no answer.
    pub fn refuse(&mut self, mut refusal: Refusal) {
        let room = self.error_limit.saturating_sub(32) / 4;
        match &mut refusal {
            Refusal::Unsupported { type_name, reason, place } => {
                cut_end(type_name, room);
                cut_end(reason, room);
                cut_end(place, room);
            }
            Refusal::Kept { arguments } => cut_end(arguments, room),
            _ => {}
        }
        self.clear();
        let _ = put(self, tag::REFUSED);
        let _ = put(self, refusal);
    }

    /// The finished outcome, replaced by [`Refusal::TooLarge`] when it does not fit.
    pub fn finish(&mut self) -> &[u8] {
        self.seal();
        let mut behind = 0;
        for (place, piece) in std::mem::take(&mut self.lent) {
            let (place, len) = (place + behind, piece.len());
            let rest = self.bytes.split_off(place.min(self.bytes.len()));
            self.bytes.reserve(len + rest.len());
            let end = self.bytes.spare_capacity_mut().as_mut_ptr().cast();
            // SAFETY: who lent it promised that it can be read; the vector has room for as many.
            unsafe { piece.cast::<u8>().as_ptr().copy_to_nonoverlapping(end, len) };
            // SAFETY: so many were just written behind its end.
            unsafe { self.bytes.set_len(self.bytes.len() + len) };
            self.bytes.extend_from_slice(&rest);
            behind += len;
        }
        &self.bytes
    }

    /// Finishes the outcome: it is replaced by [`Refusal::TooLarge`] when it does not fit. Says how many
    /// bytes it has.
    #[inline]
    pub(crate) fn seal(&mut self) -> usize {
        if self.needed > self.limit {
            let (needed, room) = (self.needed as u64, self.limit as u64);
            self.refuse(Refusal::TooLarge { needed, room });
        }
        self.needed
    }

    /// An outcome of which nothing is lent: one that fits a slot.
    #[inline]
    pub(crate) fn whole(&self) -> &[u8] {
        &self.bytes
    }

    /// The outcome in pieces, as [`lend`](Self::lend) has left them.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = NonNull<[u8]>> + Clone + use<'_> {
        let ends = self.lent.iter().map(|(place, _)| *place).chain([self.bytes.len()]);
        let starts = [0].into_iter().chain(self.lent.iter().map(|(place, _)| *place));
        let written = starts
            .zip(ends)
            .map(|(start, end)| NonNull::from(self.bytes.get(start..end).unwrap_or_default()));
        let lent = self.lent.iter().map(|(_, piece)| Some(*piece)).chain([None]);
        written.zip(lent).flat_map(|(written, lent)| [Some(written), lent]).flatten()
    }

    /// Forgets what was written. A buffer that a large answer has grown gives its memory back.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.needed = 0;
        self.lent.clear();
    }
}

impl Writer for AnswerBuf {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.needed = self.needed.saturating_add(bytes.len());
        if self.needed <= self.limit {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// A decoded outcome; values borrow from the bytes.
#[derive(Debug, PartialEq)]
pub enum Outcome<'a> {
    /// The model's answer.
    Value(ValueRef<'a>),
    /// The exception it raised.
    Python(PythonError),
    /// Why its answer could not be carried.
    Refused(Refusal),
}

impl<'a> Outcome<'a> {
    /// Decodes and checks private bytes.
    #[inline]
    ///
    /// # Errors
    /// When they are no outcome.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.take_byte()? {
            tag::VALUE => ValueRef::decode(reader.rest()).map(Self::Value),
            tag::PYTHON => Self::read_whole(reader, PythonError::read).map(Self::Python),
            tag::REFUSED => Self::read_whole(reader, Refusal::read).map(Self::Refused),
            _ => Err(Malformed),
        }
    }

    /// Bytes that the tensors in place have that an outcome's message names; `None` if it names none.
    ///
    /// # Errors
    /// As for [`splice`].
    pub(crate) fn bytes_placed(message: &[u8], room: u64) -> Result<Option<u64>, SpliceError> {
        match message.split_first() {
            Some((&tag::VALUE, value)) => placed::bytes_placed(value, room),
            _ => Ok(None),
        }
    }

    /// Puts the tensors in place of an outcome's message, which is a value, into it: copies it to the end
    /// of `into`. For `room` and `append` see [`splice`].
    ///
    /// # Errors
    /// As for [`splice`].
    pub(crate) fn splice<A: smallvec::Array<Item = u8>>(
        message: &[u8],
        room: u64,
        into: &mut smallvec::SmallVec<A>,
        append: impl FnMut(u64, usize, &mut smallvec::SmallVec<A>) -> std::io::Result<()>,
    ) -> Result<(), SpliceError> {
        let (&tag, value) = message.split_first().ok_or(SpliceError::Malformed)?;
        into.push(tag);
        splice(value, room, into, append)
    }

    fn read_whole<T>(
        mut reader: Reader<'a>,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let whole = read(&mut reader)?;
        reader.finish()?;
        Ok(whole)
    }

    /// The value in an outcome that [`decode`](Self::decode) has accepted as one.
    #[inline]
    pub(crate) fn value_in(bytes: &'a [u8]) -> ValueRef<'a> {
        bytes
            .get(1..)
            .map_or(ValueRef::None, |rest| ValueRef::decode_again(rest).unwrap_or(ValueRef::None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_refusals_come_out_as_they_went_in() {
        let traceback = "Traceback".to_owned();
        let python = PythonError { traceback, ..PythonError::new("ValueError", "ü\0") };
        let mut buffer = AnswerBuf::new(4096);
        buffer.python_error(python.clone());
        assert_eq!(Outcome::decode(buffer.finish()), Ok(Outcome::Python(python)));
        for refusal in [
            Refusal::Unsupported {
                type_name: "set".to_owned(),
                reason: String::new(),
                place: "x".repeat(300),
            },
            Refusal::TooLarge { needed: u64::MAX, room: 256 },
            Refusal::MalformedTask,
            Refusal::NoSharedMemory { needed: 1 << 40, available: 0, total: 251 },
            Refusal::Kept { arguments: "'x', 'y'".to_owned() },
            Refusal::System { action: "read".to_owned(), reason: "no".to_owned() },
        ] {
            buffer.refuse(refusal.clone());
            let mut bytes = buffer.finish().to_vec();
            assert_eq!(Outcome::decode(&bytes), Ok(Outcome::Refused(refusal)));
            bytes.push(0);
            assert_eq!(Outcome::decode(&bytes), Err(Malformed), "a byte is left over");
        }
        assert_eq!(Outcome::decode(&[tag::REFUSED, 6]), Err(Malformed), "there are six");
    }

    #[test]
    fn elements_that_have_no_room_need_not_be_written_to_be_counted() {
        let mut buffer = AnswerBuf::new(64);
        for (extent, fits) in [(52, true), (53, false), (1 << 40, false), (usize::MAX / 2, false)] {
            buffer.start_value();
            buffer.tensor(DType::U8, &[extent]);
            assert_eq!(buffer.reserve(extent), fits, "{extent}");
            if fits {
                buffer.elements(&vec![7; extent]);
            }
            let outcome = Outcome::decode(buffer.finish());
            let room = 64;
            let refused = Refusal::TooLarge { needed: extent as u64 + 12, room };
            match outcome {
                Ok(Outcome::Value(ValueRef::Tensor(tensor))) if fits => {
                    assert_eq!(tensor.bytes(), [7; 52]);
                }
                other => assert_eq!(other, Ok(Outcome::Refused(refused)), "{extent}"),
            }
        }
    }

    #[test]
    fn lengths_that_the_bytes_do_not_have_are_malformed_and_cost_no_memory() {
        for tag in [tag::VALUE, tag::PYTHON, tag::REFUSED] {
            for len in [1 << 20, 1 << 32, 1 << 62, 1 << 63, u64::MAX] {
                for rest in [&[][..], &[4], &[5], &[6], &[7], &[0], &[1]] {
                    let mut bytes = vec![tag];
                    bytes.extend(rest);
                    bytes.push(253);
                    bytes.extend(u64::to_le_bytes(len));
                    assert_eq!(Outcome::decode(&bytes), Err(Malformed), "{tag} {len} {rest:?}");
                }
            }
        }
        assert_eq!(Outcome::decode(&[]), Err(Malformed));
        assert_eq!(Outcome::decode(&[tag::VALUE]), Err(Malformed));
    }

    #[test]
    fn nesting_beyond_the_limit_is_malformed_and_does_not_overflow_the_stack() {
        let mut bytes = vec![tag::VALUE];
        bytes.extend([7, 1].repeat(1 << 20));
        bytes.push(0);
        assert_eq!(Outcome::decode(&bytes), Err(Malformed));
    }

    #[test]
    fn an_error_is_cut_to_its_room_and_keeps_the_end_of_its_traceback() {
        let error = PythonError {
            kind: "ValueError".to_owned(),
            message: "ü".repeat(10_000),
            traceback: format!("{}the last line", "é\n".repeat(100_000)),
        };
        for room in [64, 256, 4096, 1 << 20] {
            let mut buffer = AnswerBuf::new(room);
            buffer.python_error(error.clone());
            let bytes = buffer.finish();
            assert!(bytes.len() <= room, "{} in {room}", bytes.len());
            let Ok(Outcome::Python(cut)) = Outcome::decode(bytes) else { panic!("{room}") };
            assert!("ValueError".starts_with(&cut.kind) && cut.traceback.ends_with("line"));
        }
    }
}
