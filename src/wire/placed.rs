//! Tensors in place: a message says what they are and where, and their elements stand in the large
//! area.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use smallvec::{Array, SmallVec};

use super::codec::{Malformed, Reader, put};
use super::tensor::{self, DType, MAX_RANK};
use super::value::{self, MAX_DEPTH, ValueRef};
use crate::error::TensorError;

/// Tensors start at multiples of this many bytes: a cache line, and whatever SIMD there is.
pub const TENSOR_ALIGNMENT: usize = 64;

/// A shape, usually without an allocation.
type Shape = SmallVec<[usize; 4]>;

/// A tensor for which room in a task is reserved ([`Engine::reserve`](crate::Engine::reserve)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    dtype: DType,
    shape: Shape,
    is_output: bool,
}

impl TensorSpec {
    /// A tensor that the host writes, and the model reads.
    pub fn input(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, shape: shape.into(), is_output: false }
    }

    /// Room for a tensor of the answer: the model gets an array to write into. If it returns that
    /// array, or a part of it in C order, nothing is copied in the worker. Its elements are arbitrary
    /// at first.
    pub fn output(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, shape: shape.into(), is_output: true }
    }
}

/// Where a reserved tensor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) dtype: DType,
    shape: Shape,
    /// In the extent for outputs, rather than that for inputs.
    pub(crate) is_output: bool,
    /// From the start of the extent; a multiple of [`TENSOR_ALIGNMENT`].
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
}

/// The places of some tensors.
pub(crate) type Placements = SmallVec<[Placement; 2]>;

/// Puts tensors one behind the other. Gives their places, and the bytes that inputs and outputs take.
///
/// # Errors
/// A shape that no tensor has.
pub(crate) fn place(specs: &[TensorSpec]) -> Result<(Placements, [u64; 2]), TensorError> {
    let mut ends = [0_u64; 2];
    let mut placements = Placements::new();
    for TensorSpec { dtype, shape, is_output } in specs {
        let (dtype, is_output) = (*dtype, *is_output);
        if shape.len() > MAX_RANK {
            return Err(TensorError::Rank { found: shape.len(), limit: MAX_RANK });
        }
        let end = &mut ends[usize::from(is_output)];
        let overflow = || TensorError::Overflow { dtype, shape: shape.to_vec() };
        let extents = shape.iter().map(|extent| *extent as u64);
        let bytes = tensor::bytes_of(dtype, extents).ok_or_else(overflow)?;
        let offset = end.next_multiple_of(TENSOR_ALIGNMENT as u64);
        // Each is at most `i64::MAX`, and so is the sum, or it is an error.
        *end = i64::try_from(offset + bytes).map_err(|_| overflow())?.cast_unsigned();
        let bytes = usize::try_from(bytes).map_err(|_| overflow())?;
        placements.push(Placement { dtype, shape: shape.clone(), is_output, offset, bytes });
    }
    Ok((placements, ends))
}

impl Placement {
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes that its encoding has, without its tag.
    pub(crate) fn encoded_len(&self) -> usize {
        FIXED_BYTES + 8 * self.shape.len()
    }

    pub(crate) fn write<W: Writer>(&self, writer: &mut W) -> Result<(), EncodeError> {
        write(writer, self.dtype, &self.shape, self.is_output, self.offset)
    }
}

/// Type, rank, side and offset.
const FIXED_BYTES: usize = 1 + 1 + 1 + 8;

/// Writes the head that [`Placed::read`] reads.
pub(super) fn write<W: Writer>(
    writer: &mut W,
    dtype: DType,
    shape: &[usize],
    is_output: bool,
    offset: u64,
) -> Result<(), EncodeError> {
    put(writer, dtype as u8)?;
    put(writer, shape.len() as u8)?;
    for extent in shape {
        writer.write(&(*extent as u64).to_le_bytes())?;
    }
    put(writer, u8::from(is_output))?;
    writer.write(&offset.to_le_bytes())
}

/// A tensor in place, as a message names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<'a> {
    dtype: DType,
    /// 8 bytes for each extent.
    shape: &'a [u8],
    is_output: bool,
    offset: u64,
    bytes: u64,
}

impl<'a> Placed<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let dtype = DType::from_code(reader.take_byte()?).ok_or(Malformed)?;
        let rank = usize::from(reader.take_byte()?);
        if rank > MAX_RANK {
            return Err(Malformed);
        }
        let shape = reader.take_raw(8 * rank)?;
        let bytes = tensor::bytes_of(dtype, tensor::extents(shape)).ok_or(Malformed)?;
        let is_output = match reader.take_byte()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed),
        };
        let offset = reader.take_raw(8)?.try_into().map_err(|_| Malformed)?;
        Ok(Self { dtype, shape, is_output, offset: u64::from_le_bytes(offset), bytes })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extent of each dimension.
    pub fn shape(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        tensor::extents(self.shape)
    }

    /// Whether it is room for an answer, to be written.
    pub fn is_output(&self) -> bool {
        self.is_output
    }

    /// How far from the start of its extent it stands.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// An argument that may be a tensor in place.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// One whose bytes are all here.
    Value(ValueRef<'a>),
    /// One whose elements are elsewhere.
    Placed(Placed<'a>),
}

/// Why a message's tensors could not be put into it.
#[derive(Debug)]
pub(crate) enum SpliceError {
    /// It is none that an honest worker writes.
    Malformed,
    /// Their elements could not be read.
    Unread(std::io::Error),
}

impl From<Malformed> for SpliceError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Bytes that the tensors in place of an encoded value have in all; `None` if it names none. Beyond `room`
/// there are none.
///
/// # Errors
/// Bytes that are no value of this kind.
pub(crate) fn bytes_placed(message: &[u8], room: u64) -> Result<Option<u64>, SpliceError> {
    let mut placed = None;
    walk(message, room, |part| {
        if let Part::Tensor(tensor) = part {
            // No more than `room` in all.
            placed = Some(placed.unwrap_or(0) + tensor.bytes);
        }
        Ok(())
    })?;
    Ok(placed)
}

/// Copies an encoded value to the end of `into`, with the elements of its tensors in place: `append` reads
/// so many bytes, from an offset in the extent for outputs. Beyond `room` bytes in all there are none.
///
/// # Errors
/// Bytes that are no value of this kind, or what `append` says.
pub(crate) fn splice<A: Array<Item = u8>>(
    message: &[u8],
    room: u64,
    into: &mut SmallVec<A>,
    mut append: impl FnMut(u64, usize, &mut SmallVec<A>) -> std::io::Result<()>,
) -> Result<(), SpliceError> {
    walk(message, room, |part| {
        match part {
            Part::Bytes(bytes) => into.extend_from_slice(bytes),
            Part::Tensor(tensor) => {
                let shape: Shape = tensor.shape().map(|extent| extent as usize).collect();
                // A vector grows: this cannot fail.
                let _ = value::write_tensor(&mut Appending(into), tensor.dtype, &shape);
                if tensor.bytes > 0 {
                    // `room` is that of an extent, so it is a `usize`.
                    append(tensor.offset, tensor.bytes as usize, into)
                        .map_err(SpliceError::Unread)?;
                }
            }
        }
        Ok(())
    })
}

/// A part of an encoded value.
enum Part<'a> {
    /// As it stands there.
    Bytes(&'a [u8]),
    /// A tensor in place.
    Tensor(Placed<'a>),
}

/// Goes through an encoded value and hands its parts out, in their order.
fn walk<'a>(
    message: &'a [u8],
    room: u64,
    visit: impl FnMut(Part<'a>) -> Result<(), SpliceError>,
) -> Result<(), SpliceError> {
    let mut walker = Walker { reader: Reader::new(message), room, visit };
    walker.value(0)?;
    Ok(walker.reader.finish()?)
}

struct Walker<'a, F> {
    reader: Reader<'a>,
    /// Bytes that tensors may still have.
    room: u64,
    visit: F,
}

impl<'a, F: FnMut(Part<'a>) -> Result<(), SpliceError>> Walker<'a, F> {
    fn value(&mut self, depth: usize) -> Result<(), SpliceError> {
        let start = self.reader;
        match value::start(&mut self.reader)? {
            value::Start::Items(_) | value::Start::Pairs(_) if depth == MAX_DEPTH => {
                Err(SpliceError::Malformed)
            }
            value::Start::Items(len) => {
                self.visit_since(&start)?;
                (0..len).try_for_each(|_| self.value(depth + 1))
            }
            value::Start::Pairs(len) => {
                self.visit_since(&start)?;
                for _ in 0..len {
                    let key = self.reader;
                    self.reader.take_str()?;
                    self.visit_since(&key)?;
                    self.value(depth + 1)?;
                }
                Ok(())
            }
            value::Start::Placed => self.tensor(),
            value::Start::Other => {
                self.reader = start;
                ValueRef::read(&mut self.reader, depth)?;
                self.visit_since(&start)
            }
        }
    }

    fn visit_since(&mut self, start: &Reader<'a>) -> Result<(), SpliceError> {
        (self.visit)(Part::Bytes(start.up_to(&self.reader)))
    }

    fn tensor(&mut self) -> Result<(), SpliceError> {
        let placed = Placed::read(&mut self.reader)?;
        // In all no more than there is, or few bytes could ask for memory without end.
        let left = self.room.checked_sub(placed.bytes);
        let is_output = placed.is_output && placed.offset.checked_add(placed.bytes).is_some();
        let (Some(left), true) = (left, is_output) else {
            return Err(SpliceError::Malformed);
        };
        self.room = left;
        (self.visit)(Part::Tensor(placed))
    }
}

struct Appending<'a, A: Array<Item = u8>>(&'a mut SmallVec<A>);

impl<A: Array<Item = u8>> Writer for Appending<'_, A> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::{EncodeTo, IntoVec};
    use crate::wire::{
        AnswerBuf, Argument, Outcome, PlacedTask, Refusal, Signature, Task, TaskReader, Tensor,
        Value,
    };

    /// What stands in the extent for outputs here.
    const OUTPUTS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn spliced(message: &[u8], room: u64) -> Result<Vec<u8>, bool> {
        let mut into = SmallVec::<[u8; 16]>::new();
        let append = |offset: u64, len: usize, into: &mut SmallVec<[u8; 16]>| {
            let bytes = OUTPUTS.get(offset as usize..).and_then(|rest| rest.get(..len));
            into.extend_from_slice(bytes.ok_or(std::io::ErrorKind::InvalidInput)?);
            Ok(())
        };
        match Outcome::splice(message, room, &mut into, append) {
            Ok(()) => Ok(into.into_vec()),
            Err(error) => Err(matches!(error, SpliceError::Malformed)),
        }
    }

    fn encoded(write: impl FnOnce(&mut AnswerBuf)) -> Vec<u8> {
        let mut answer = AnswerBuf::new(1 << 20);
        answer.start_value();
        write(&mut answer);
        answer.finish().to_vec()
    }

    #[test]
    fn a_placed_tensor_comes_out_as_it_went_in_and_every_byte_of_it_counts() {
        let specs = [
            TensorSpec::input(DType::F64, &[]),
            TensorSpec::output(DType::U8, &[7, 9]),
            TensorSpec::input(DType::F16, &[3, 0, 2]),
            TensorSpec::output(DType::Bool, &[1; MAX_RANK]),
            TensorSpec::input(DType::I32, &[5]),
        ];
        let (tensors, ends) = place(&specs).unwrap();
        assert_eq!(ends, [84, 65], "8, to 64; nothing there; 20 more. 63, to 64; 1");
        let task = Task::new().int(-7).reserved(4).reserved(1).reserved(2).reserved(0).reserved(3);
        let signature = ["a", "b", "c", "d", "e"]
            .iter()
            .fold(Signature::new().int("n"), |signature, name| signature.value(*name));
        let bytes = signature.check(&task, &tensors).unwrap();
        let mut message = Vec::new();
        let placed = PlacedTask { task: &task, tensors: &tensors };
        placed.encode_to(&mut IntoVec(&mut message)).unwrap();
        assert_eq!(message.len(), bytes);
        assert!(task.encode_to(&mut IntoVec(&mut Vec::new())).is_err(), "nothing is reserved");

        let mut reader = TaskReader::new(&message);
        assert_eq!(reader.int(), Ok(-7));
        for (index, offset) in [(4, 64), (1, 0), (2, 64), (0, 0), (3, 64)] {
            let Ok(Argument::Placed(read)) = reader.argument() else { panic!("{index}") };
            let TensorSpec { dtype, shape, is_output } = &specs[index];
            let extents: Vec<_> = read.shape().map(|extent| extent as usize).collect();
            assert_eq!((read.dtype(), &extents[..]), (*dtype, &shape[..]), "{index}");
            assert_eq!((read.is_output(), read.offset()), (*is_output, offset), "{index}");
            assert_eq!(read.bytes(), tensors[index].bytes as u64, "{index}");
        }
        reader.finish().unwrap();
        // Cut anywhere, it is none; nor is it a value.
        let start = message.len() - tensors[3].encoded_len() - 1;
        for cut in start..message.len() {
            assert!(TaskReader::new(&message[start..cut]).argument().is_err(), "{cut}");
        }
        assert!(TaskReader::new(&message[start..]).value().is_err());
        let beyond = [11, DType::U8 as u8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(TaskReader::new(&beyond).argument().is_err(), "there are two sides");
    }

    #[test]
    fn what_stands_in_place_is_put_into_the_answer_wherever_it_is_named() {
        let expected = Value::List(vec![
            Value::Tensor(Tensor::from_bytes(DType::U8, &[2, 2], vec![3, 4, 5, 6]).unwrap()),
            Value::Dict(vec![
                ("a".to_owned(), Value::Float(-0.0)),
                (
                    "b".to_owned(),
                    Value::Tuple(vec![
                        Value::Tensor(Tensor::from_bytes(DType::U16, &[], vec![7, 8]).unwrap()),
                        Value::Str("x".to_owned()),
                    ]),
                ),
            ]),
            Value::Tensor(Tensor::from_bytes(DType::F64, &[0], vec![]).unwrap()),
        ]);
        let message = encoded(|answer| {
            answer.list(3);
            answer.placed(DType::U8, &[2, 2], 2);
            answer.dict(2);
            answer.key("a");
            answer.float(-0.0);
            answer.key("b");
            answer.tuple(2);
            answer.placed(DType::U16, &[], 6);
            answer.str("x");
            answer.placed(DType::F64, &[0], 8);
        });
        assert!(Outcome::decode(&message).is_err(), "not before they are put into it");
        assert!(matches!(Outcome::bytes_placed(&message, 8), Ok(Some(6))));
        let whole = spliced(&message, 8).unwrap();
        let Ok(Outcome::Value(value)) = Outcome::decode(&whole) else { panic!() };
        assert_eq!(value.to_owned(), expected);
        // What has none is only copied.
        for plain in [encoded(|answer| answer.value(&expected)), {
            let mut answer = AnswerBuf::new(4096);
            answer.refuse(Refusal::MalformedTask);
            answer.finish().to_vec()
        }] {
            assert!(matches!(Outcome::bytes_placed(&plain, 8), Ok(None)));
            assert_eq!(spliced(&plain, 8), Ok(plain));
        }
    }

    #[test]
    fn a_message_names_no_more_than_there_is() {
        let naming = |times: usize, extent: usize, offset: u64| {
            encoded(|answer| {
                answer.list(times);
                (0..times).for_each(|_| answer.placed(DType::U8, &[extent], offset));
            })
        };
        assert!(spliced(&naming(2, 4, 0), 8).is_ok());
        for (times, extent, offset) in
            [(3, 4, 0), (2, 5, 0), (1, 9, 0), (1, 1, u64::MAX), (1, usize::MAX / 2, 0)]
        {
            let malformed = Err(true);
            assert_eq!(spliced(&naming(times, extent, offset), 8), malformed, "{times} {extent}");
        }
        assert_eq!(
            spliced(&naming(1, 4, 5), 8),
            Err(false),
            "beyond the extent: the reader says so"
        );
        let mut input = naming(1, 4, 0);
        let side = input.len() - 9;
        input[side] = 0;
        assert_eq!(spliced(&input, 8), Err(true), "an input is no answer");
        let message = naming(1, 4, 0);
        for cut in 1..message.len() {
            assert_eq!(spliced(&message[..cut], 8), Err(true), "{cut}");
        }
        let deep = encoded(|answer| (0..=MAX_DEPTH).for_each(|_| answer.list(1)));
        assert_eq!(spliced(&deep, 8), Err(true));
        let mut longer = message;
        longer.push(0);
        assert_eq!(spliced(&longer, 8), Err(true), "a byte is left over");
    }

    #[test]
    fn what_is_lent_is_read_where_it_is_and_in_its_place() {
        let (first, second) = ([1_u8; 300], [2_u8; 500]);
        let mut answer = AnswerBuf::new(4096).with_error_limit(256);
        let write = |answer: &mut AnswerBuf, lends: bool| {
            answer.start_value();
            answer.list(3);
            for elements in [&first[..], &second] {
                answer.tensor(DType::U8, &[elements.len()]);
                assert!(answer.reserve(elements.len()));
                if lends {
                    assert!(answer.lends(elements.len()));
                    // SAFETY: they stay to the end of this test.
                    unsafe { answer.lend(elements.into()) };
                } else {
                    answer.elements(elements);
                }
            }
            answer.int(7);
        };
        write(&mut answer, false);
        let expected = answer.finish().to_vec();
        write(&mut answer, true);
        assert_eq!(answer.seal(), expected.len());
        assert!(answer.whole().len() < 64, "lent, not written");
        // SAFETY: as above; and the answer's own.
        let pieces = answer.pieces().flat_map(|piece| unsafe { piece.as_ref() }.to_vec());
        assert_eq!(pieces.collect::<Vec<_>>(), expected);
        assert_eq!(answer.finish(), expected);
        assert!(!answer.lends(256), "what fits a slot is not lent");
        // What was lent goes with what replaces it.
        write(&mut answer, true);
        answer.refuse(Refusal::MalformedTask);
        assert_eq!(answer.pieces().map(|piece| piece.len()).sum::<usize>(), answer.seal());
        assert_eq!(Outcome::decode(answer.finish()), Ok(Outcome::Refused(Refusal::MalformedTask)));
        // And what has no room is counted.
        let mut answer = AnswerBuf::new(600).with_error_limit(256);
        answer.start_value();
        answer.tensor(DType::U8, &[800]);
        // SAFETY: as above.
        unsafe { answer.lend((&first[..]).into()) };
        // SAFETY: as above.
        unsafe { answer.lend((&second[..]).into()) };
        let refused = Outcome::Refused(Refusal::TooLarge { needed: 812, room: 600 });
        assert_eq!(Outcome::decode(answer.finish()), Ok(refused));
    }
}
