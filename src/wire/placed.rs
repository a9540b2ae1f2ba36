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

/// Copies an encoded value to the end of `into`, with the elements of its tensors in place: `append` reads
/// so many bytes, from an offset in the extent for outputs. Beyond `room` bytes in all there are none.
///
/// # Errors
/// Bytes that are no value of this kind, or what `append` says.
pub(crate) fn splice<A: Array<Item = u8>>(
    message: &[u8],
    room: u64,
    into: &mut SmallVec<A>,
    append: impl FnMut(u64, usize, &mut SmallVec<A>) -> std::io::Result<()>,
) -> Result<(), SpliceError> {
    let mut splicer = Splicer { reader: Reader::new(message), room, into, append };
    splicer.value(0)?;
    Ok(splicer.reader.finish()?)
}

struct Splicer<'a, 'i, A: Array<Item = u8>, F> {
    reader: Reader<'a>,
    room: u64,
    into: &'i mut SmallVec<A>,
    append: F,
}

impl<A, F> Splicer<'_, '_, A, F>
where
    A: Array<Item = u8>,
    F: FnMut(u64, usize, &mut SmallVec<A>) -> std::io::Result<()>,
{
    fn value(&mut self, depth: usize) -> Result<(), SpliceError> {
        let start = self.reader;
        match value::start(&mut self.reader)? {
            value::Start::Items(_) | value::Start::Pairs(_) if depth == MAX_DEPTH => {
                Err(SpliceError::Malformed)
            }
            value::Start::Items(len) => {
                self.copy_since(&start);
                (0..len).try_for_each(|_| self.value(depth + 1))
            }
            value::Start::Pairs(len) => {
                self.copy_since(&start);
                for _ in 0..len {
                    let key = self.reader;
                    self.reader.take_str()?;
                    self.copy_since(&key);
                    self.value(depth + 1)?;
                }
                Ok(())
            }
            value::Start::Placed => self.tensor(),
            value::Start::Other => {
                self.reader = start;
                ValueRef::read(&mut self.reader, depth)?;
                self.copy_since(&start);
                Ok(())
            }
        }
    }

    fn copy_since(&mut self, start: &Reader<'_>) {
        self.into.extend_from_slice(start.up_to(&self.reader));
    }

    fn tensor(&mut self) -> Result<(), SpliceError> {
        let placed = Placed::read(&mut self.reader)?;
        let end = placed.offset.checked_add(placed.bytes);
        // In all no more than there is, or few bytes could ask for memory without end.
        let left = self.room.checked_sub(placed.bytes);
        let (Some(left), true) = (left, end.is_some() && placed.is_output) else {
            return Err(SpliceError::Malformed);
        };
        self.room = left;
        let shape: Shape = placed.shape().map(|extent| extent as usize).collect();
        // A vector grows: this cannot fail.
        let _ = value::write_tensor(&mut Appending(self.into), placed.dtype, &shape);
        // `room` is that of an extent, so it is a `usize`.
        (self.append)(placed.offset, placed.bytes as usize, self.into).map_err(SpliceError::Unread)
    }
}

struct Appending<'a, A: Array<Item = u8>>(&'a mut SmallVec<A>);

impl<A: Array<Item = u8>> Writer for Appending<'_, A> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
