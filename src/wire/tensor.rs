//! Arrays of numbers: an element type, a shape, and the elements in C order.

use std::fmt;
use std::slice;

use bincode::enc::write::Writer;
use bincode::error::EncodeError;

use super::codec::{Malformed, Reader, put};
use crate::error::{ElementsError, TensorError};

/// The most dimensions a tensor can have: as many as every numpy has.
pub const MAX_RANK: usize = 32;

/// The type of a tensor's elements, in this machine's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// numpy's `bool`: one byte, where 0 is false. Anything else is true; numpy itself writes 1.
    Bool,
    /// `int8`.
    I8,
    /// `int16`.
    I16,
    /// `int32`.
    I32,
    /// `int64`.
    I64,
    /// `uint8`.
    U8,
    /// `uint16`.
    U16,
    /// `uint32`.
    U32,
    /// `uint64`.
    U64,
    /// `float16`. Rust has no such type: its elements are to be had as bytes.
    F16,
    /// `float32`.
    F32,
    /// `float64`.
    F64,
}

impl DType {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Bool,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::F32,
        Self::F64,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// numpy's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type whose values are a tensor's elements.
///
/// # Invariants
/// None of them has padding. (The trait is sealed: they are all in this file.)
pub trait Element: Copy + sealed::Sealed {
    /// Its name in a tensor.
    const DTYPE: DType;

    #[doc(hidden)]
    fn bytes(elements: &[Self]) -> &[u8] {
        // SAFETY: the slice is that many bytes long, and without padding all of them are initialised.
        // A byte needs no alignment, and the borrow is that of the elements.
        unsafe { slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
    }

    /// All elements that the bytes have. (An iterator of known length: one allocation, one copy.)
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DTYPE: DType = DType::$dtype;

            fn read(bytes: &[u8]) -> Vec<Self> {
                let (elements, _) = bytes.as_chunks();
                elements.iter().map(|element| Self::from_ne_bytes(*element)).collect()
            }
        }
    )*};
}

elements! {
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    f32 => F32, f64 => F64,
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn read(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|byte| *byte != 0).collect()
    }
}

/// The bytes that a tensor of this type and shape has; `None` if no memory holds them.
pub(super) fn bytes_of(dtype: DType, shape: impl Iterator<Item = u64>) -> Option<u64> {
    let mut is_empty = false;
    let mut bytes = dtype.size() as u64;
    for extent in shape {
        is_empty |= extent == 0;
        // As numpy does: an extent of zero makes the others no smaller.
        bytes = bytes.checked_mul(extent.max(1))?;
    }
    let bytes = i64::try_from(bytes).ok()?.cast_unsigned();
    Some(if is_empty { 0 } else { bytes })
}

/// A tensor, owned: what numpy calls an `ndarray`, its elements in C order.
///
/// Two are equal if type, shape and bytes are: a NaN is equal to itself, and -0.0 is not 0.0.
///
/// ```
/// use nearcall::Tensor;
///
/// let image = Tensor::new(&[2, 3], &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(image.shape(), [2, 3]);
/// assert_eq!(image.to_vec::<f32>()?[4], 5.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    /// As many bytes as `dtype` and `shape` say.
    bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of these elements, given in C order: the last index varies fastest.
    ///
    /// A shape of `[]` is a single element; an extent of zero leaves none.
    ///
    /// # Errors
    /// A shape that does not have this many elements, that no memory holds, or with more than 32
    /// dimensions.
    pub fn new<T: Element>(shape: &[usize], elements: &[T]) -> Result<Self, TensorError> {
        Self::from_bytes(T::DTYPE, shape, T::bytes(elements).to_vec())
    }

    /// A tensor of elements that are bytes already, in this machine's byte order.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Result<Self, TensorError> {
        let needed = Self::bytes_needed(dtype, shape)?;
        if needed != bytes.len() as u64 {
            let found = bytes.len();
            return Err(TensorError::Size { dtype, shape: shape.to_vec(), needed, found });
        }
        Ok(Self { dtype, shape: shape.to_vec(), bytes })
    }

    /// The bytes that the elements take, if a tensor can have this type and shape.
    pub(crate) fn bytes_needed(dtype: DType, shape: &[usize]) -> Result<u64, TensorError> {
        if shape.len() > MAX_RANK {
            return Err(TensorError::Rank { found: shape.len(), limit: MAX_RANK });
        }
        let needed = bytes_of(dtype, shape.iter().map(|extent| *extent as u64));
        needed.ok_or_else(|| TensorError::Overflow { dtype, shape: shape.to_vec() })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extent of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, as bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements, in C order.
    ///
    /// # Errors
    /// When they are of another type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, ElementsError> {
        elements_in(self.dtype, &self.bytes)
    }

    pub(crate) fn encoded_len(&self) -> usize {
        2 + 8 * self.shape.len() + self.bytes.len()
    }

    pub(crate) fn write<W: Writer>(&self, writer: &mut W) -> Result<(), EncodeError> {
        write_head(writer, self.dtype, &self.shape)?;
        writer.write(&self.bytes)
    }
}

/// Starts a tensor: its elements must follow, as many bytes as type and shape say.
pub(crate) fn write_head<W: Writer>(
    writer: &mut W,
    dtype: DType,
    shape: &[usize],
) -> Result<(), EncodeError> {
    put(writer, dtype as u8)?;
    put(writer, shape.len() as u8)?;
    shape.iter().try_for_each(|extent| writer.write(&(*extent as u64).to_le_bytes()))
}

fn elements_in<T: Element>(dtype: DType, bytes: &[u8]) -> Result<Vec<T>, ElementsError> {
    if dtype != T::DTYPE {
        return Err(ElementsError { asked: T::DTYPE, found: dtype });
    }
    Ok(T::read(bytes))
}

/// A tensor that is borrowed from an answer, or a task.
///
/// # Invariants
/// `encoding` is the type's code, the rank, 8 bytes for each extent, and as many bytes as these say;
/// `read` checked it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TensorRef<'a> {
    encoding: &'a [u8],
}

impl<'a> TensorRef<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let start = *reader;
        let dtype = DType::from_code(reader.take_byte()?).ok_or(Malformed)?;
        let rank = usize::from(reader.take_byte()?);
        if rank > MAX_RANK {
            return Err(Malformed);
        }
        let bytes = bytes_of(dtype, extents(reader.take_raw(8 * rank)?)).ok_or(Malformed)?;
        reader.take_raw(usize::try_from(bytes).map_err(|_| Malformed)?)?;
        Ok(Self { encoding: start.up_to(reader) })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        // `read` has found it to be one.
        self.encoding.first().and_then(|code| DType::from_code(*code)).unwrap_or(DType::U8)
    }

    /// The shape's encoding, and the elements.
    fn parts(&self) -> (&'a [u8], &'a [u8]) {
        let [_, rank, rest @ ..] = self.encoding else { return (&[], &[]) };
        rest.split_at_checked(8 * usize::from(*rank)).unwrap_or_default()
    }

    /// The extent of each dimension.
    pub fn shape(&self) -> Vec<usize> {
        extents(self.parts().0).map(|extent| extent as usize).collect()
    }

    /// The elements, as bytes, in C order and this machine's byte order. They start at any address.
    pub fn bytes(&self) -> &'a [u8] {
        self.parts().1
    }

    /// The elements, in C order.
    ///
    /// # Errors
    /// When they are of another type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, ElementsError> {
        elements_in(self.dtype(), self.bytes())
    }

    /// A copy that borrows nothing.
    pub fn to_owned(&self) -> Tensor {
        Tensor { dtype: self.dtype(), shape: self.shape(), bytes: self.bytes().to_vec() }
    }
}

impl fmt::Debug for TensorRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {:?})", self.dtype(), self.shape())
    }
}

/// The extents in their encoding.
pub(super) fn extents(bytes: &[u8]) -> impl ExactSizeIterator<Item = u64> + use<'_> {
    bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::value::{MAX_DEPTH, Value, ValueRef};
    use crate::wire::{Args, Signature, Task};

    /// What `value` is when it has travelled as a task.
    fn through_a_task(value: &Value) -> Value {
        let signature = Signature::new().value("v").int("i");
        let task = Task::new().value(value).int(7);
        let bytes = signature.check(&task, &[]).unwrap();
        let mut encoded = Vec::new();
        crate::wire::EncodeTo::encode_to(&task, &mut crate::wire::IntoVec(&mut encoded)).unwrap();
        assert_eq!(encoded.len(), bytes, "{value:?}");
        for cut in 0..encoded.len().min(50) {
            assert!(
                Args::decode(&signature, &encoded[..cut], |_| None).is_err(),
                "{cut} of {value:?}"
            );
        }
        let args = Args::decode(&signature, &encoded, |_| None).unwrap();
        assert_eq!(args.get("i"), Some(&Value::Int(7)));
        args.get("v").unwrap().clone()
    }

    #[test]
    fn every_value_comes_out_as_it_went_in_and_takes_the_bytes_that_were_counted() {
        let tensors = DType::ALL.iter().map(|&dtype| {
            let bytes = (0..6 * dtype.size() as u8).collect();
            Tensor::from_bytes(dtype, &[2, 1, 3], bytes).unwrap().into()
        });
        let tensors: Vec<Value> = tensors.collect();
        let scalars = vec![
            Value::None,
            true.into(),
            Value::Int(i64::MIN),
            Value::Int(300),
            (-0.0).into(),
            "ü\0".into(),
            vec![0_u8; 300].into(),
            String::new().into(),
        ];
        let mut deep = Value::List(Vec::new());
        for _ in 1..MAX_DEPTH {
            deep = Value::List(vec![deep]);
        }
        let values = [
            Value::Tuple(scalars.clone()),
            Value::List(tensors),
            vec![("a".to_owned(), Value::List(scalars)), (String::new(), Value::None)].into(),
            Value::Dict(Vec::new()),
            deep,
            Tensor::new(&[], &[1.5_f64]).unwrap().into(),
            Tensor::new::<u16>(&[3, 0, 5], &[]).unwrap().into(),
            Tensor::new(&[1; MAX_RANK], &[true]).unwrap().into(),
        ];
        for value in &values {
            assert_eq!(through_a_task(value), *value);
        }
    }

    #[test]
    fn floats_keep_every_bit() {
        for bits in [0x7FF0_0000_0000_0001_u64, 0xFFF8_0000_0000_0123, 1 << 63, 1] {
            let Value::Float(found) = through_a_task(&f64::from_bits(bits).into()) else {
                panic!()
            };
            assert_eq!(found.to_bits(), bits);
            let tensor = Tensor::new(&[1], &[f64::from_bits(bits)]).unwrap();
            let Value::Tensor(found) = through_a_task(&tensor.into()) else { panic!() };
            assert_eq!(found.to_vec::<f64>().unwrap()[0].to_bits(), bits);
        }
    }

    #[test]
    fn a_value_that_is_nested_too_deep_is_refused_by_name_before_a_slot_is_touched() {
        let mut deep = Value::Int(1);
        for _ in 0..=MAX_DEPTH {
            deep = vec![("k".to_owned(), deep)].into();
        }
        let error = Signature::new().value("v").check(&Task::new().value(&deep), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"argument "v" has more than 64 containers inside each other"#
        );
        let error = Signature::new().int("v").check(&Task::new().value(&deep), &[]).unwrap_err();
        assert_eq!(error.to_string(), r#"argument "v" is a value, the signature says int"#);
    }

    #[test]
    fn a_shape_that_does_not_fit_its_elements_is_an_error_with_the_figures() {
        let error = |shape: &[usize], bytes| {
            Tensor::from_bytes(DType::I16, shape, vec![0; bytes]).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[2, 3], 11),
            "a tensor of int16 with the shape [2, 3] has 12 bytes, not 11"
        );
        assert_eq!(error(&[0], 2), "a tensor of int16 with the shape [0] has 0 bytes, not 2");
        assert_eq!(error(&[], 0), "a tensor of int16 with the shape [] has 2 bytes, not 0");
        assert_eq!(error(&[1; 33], 2), "a tensor of 33 dimensions: there can be 32");
        for shape in [[usize::MAX, 2], [1 << 31, 1 << 31], [0, usize::MAX]] {
            let expected = format!("no memory holds a tensor of int16 with the shape {shape:?}");
            assert_eq!(error(&shape, 0), expected);
        }
    }

    #[test]
    fn elements_are_had_as_their_own_type_alone() {
        let tensor = Tensor::new(&[2], &[true, false]).unwrap();
        assert_eq!(tensor.to_vec::<bool>(), Ok(vec![true, false]));
        let error = tensor.to_vec::<u8>().unwrap_err();
        assert_eq!(error.to_string(), "the tensor's elements are bool, not uint8");
    }

    #[test]
    fn a_tensor_whose_bytes_are_not_there_is_malformed_whatever_its_shape_says() {
        let encoded = |rank: u8, extents: &[u64], bytes: usize| {
            let mut encoding = vec![10, DType::F64 as u8, rank];
            extents.iter().for_each(|extent| encoding.extend(extent.to_le_bytes()));
            encoding.extend(vec![0; bytes]);
            encoding
        };
        assert!(ValueRef::decode(&encoded(2, &[2, 1], 16)).is_ok());
        for (rank, extents, bytes) in [
            (2, &[2, 1][..], 15),
            (2, &[2, 1], 17),
            (1, &[1 << 40], 8),
            (2, &[1 << 61, 8], 0),
            (2, &[u64::MAX, u64::MAX], 8),
            (1, &[u64::MAX / 8 + 1], 0),
            (33, &[1; 33], 8),
            (255, &[], 8),
        ] {
            let encoding = encoded(rank, extents, bytes);
            assert_eq!(ValueRef::decode(&encoding), Err(Malformed), "{rank} {extents:?} {bytes}");
        }
        assert_eq!(ValueRef::decode(&[10, 12, 0]), Err(Malformed), "there is no such type");
    }
}
