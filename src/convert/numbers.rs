//! A tensor's elements as numbers in nested sequences, and such sequences as a tensor: what numpy's
//! `tolist` and `array` do.

use std::borrow::Cow;

use serde::ser::{Serialize, Serializer};

use crate::wire::{DType, MAX_RANK, Tensor};

/// A part of a tensor: what is left of its shape, and the elements of it, in C order.
#[derive(Debug, Clone)]
pub(super) struct Array<'a> {
    pub(super) dtype: DType,
    pub(super) shape: Cow<'a, [usize]>,
    pub(super) bytes: &'a [u8],
}

impl<'a> From<&'a Tensor> for Array<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self { dtype: tensor.dtype(), shape: Cow::Borrowed(tensor.shape()), bytes: tensor.bytes() }
    }
}

impl<'a> Array<'a> {
    /// What it is as numbers.
    pub(super) fn level(&self) -> Level<'_, 'a> {
        Level { dtype: self.dtype, shape: &self.shape, bytes: self.bytes }
    }
}

/// A part of an array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level<'s, 'a> {
    dtype: DType,
    shape: &'s [usize],
    bytes: &'a [u8],
}

/// What a part of an array is.
pub(super) enum Part<'s, 'a> {
    Number(Number),
    Rows(Rows<'s, 'a>),
}

impl<'s, 'a> Level<'s, 'a> {
    pub(super) fn part(self) -> Part<'s, 'a> {
        let Some((rows, shape)) = self.shape.split_first() else {
            return Part::Number(Number::of(self.dtype, self.bytes));
        };
        // Without elements there are no rows, whatever the shape says: a worker may claim more of
        // them than there is time to count.
        let left = if self.bytes.is_empty() { 0 } else { *rows };
        let row_bytes = self.bytes.len().checked_div(*rows).unwrap_or_default();
        Part::Rows(Rows { rest: Level { shape, ..self }, row_bytes, left })
    }
}

/// The rows of a part of an array that are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'s, 'a> {
    /// The shape of a row, and the elements of all of them.
    rest: Level<'s, 'a>,
    row_bytes: usize,
    left: usize,
}

impl<'s, 'a> Iterator for Rows<'s, 'a> {
    type Item = Level<'s, 'a>;

    fn next(&mut self) -> Option<Level<'s, 'a>> {
        self.left = self.left.checked_sub(1)?;
        let (row, rest) = self.rest.bytes.split_at_checked(self.row_bytes)?;
        self.rest.bytes = rest;
        Some(Level { bytes: row, ..self.rest })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Rows<'_, '_> {}

impl Serialize for Level<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.part() {
            Part::Rows(rows) => serializer.collect_seq(rows),
            Part::Number(number) => match number {
                Number::Bool(value) => serializer.serialize_bool(value),
                Number::Int(value) => serializer.serialize_i64(value),
                Number::Unsigned(value) => serializer.serialize_u64(value),
                Number::Single(value) => serializer.serialize_f32(value),
                Number::Float(value) => serializer.serialize_f64(value),
            },
        }
    }
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Single(f32),
    Float(f64),
}

impl Number {
    fn of(dtype: DType, bytes: &[u8]) -> Self {
        macro_rules! element {
            ($type:ty) => {
                <$type>::from_ne_bytes(bytes.try_into().unwrap_or_default())
            };
        }
        match dtype {
            DType::Bool => Self::Bool(bytes.iter().any(|byte| *byte != 0)),
            DType::I8 => Self::Int(element!(i8).into()),
            DType::I16 => Self::Int(element!(i16).into()),
            DType::I32 => Self::Int(element!(i32).into()),
            DType::I64 => Self::Int(element!(i64)),
            DType::U8 => Self::Unsigned(element!(u8).into()),
            DType::U16 => Self::Unsigned(element!(u16).into()),
            DType::U32 => Self::Unsigned(element!(u32).into()),
            DType::U64 => Self::Unsigned(element!(u64)),
            DType::F16 => Self::Single(half_to_single(element!(u16))),
            DType::F32 => Self::Single(element!(f32)),
            DType::F64 => Self::Float(element!(f64)),
        }
    }
}

/// A `float16` as the `f32` of the same value: each has one.
fn half_to_single(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1F;
    let fraction = u32::from(half & 0x3FF);
    match (exponent, fraction) {
        // A zero or a subnormal number: so many times 2^-24, which is exact.
        (0, _) => f32::from_bits(sign | (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        // Infinite, or not a number with all that it says.
        (0x1F, _) => f32::from_bits(sign | 0x7F80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 127 - 15) << 23) | (fraction << 13)),
    }
}

/// Nested sequences of numbers on their way to be a tensor.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// The length of the sequences of each level, once one has ended.
    extents: Vec<Option<usize>>,
    /// How many levels there are, once a number was seen or an empty sequence.
    rank: Option<usize>,
    numbers: Vec<Number>,
}

impl Collected {
    /// Takes a number that stands in so many sequences.
    pub(super) fn number(&mut self, number: Number, depth: usize) -> Result<(), &'static str> {
        self.numbers.push(number);
        self.has_rank(depth)
    }

    /// Looks at a sequence's begin.
    pub(super) fn begin(&mut self, depth: usize) -> Result<(), &'static str> {
        if depth >= MAX_RANK {
            return Err("a tensor has at most 32 dimensions");
        }
        if self.extents.len() <= depth {
            self.extents.resize(depth + 1, None);
        }
        Ok(())
    }

    /// Takes the end of a sequence that had so many items and stands in so many others.
    pub(super) fn end(&mut self, len: usize, depth: usize) -> Result<(), &'static str> {
        if len == 0 {
            self.has_rank(depth + 1)?;
        }
        let extent = self.extents.get_mut(depth).ok_or(RAGGED)?;
        if *extent.get_or_insert(len) == len { Ok(()) } else { Err(RAGGED) }
    }

    fn has_rank(&mut self, rank: usize) -> Result<(), &'static str> {
        if *self.rank.get_or_insert(rank) == rank { Ok(()) } else { Err(RAGGED) }
    }

    /// The tensor, of the type that numpy would give it.
    pub(super) fn into_tensor(self) -> Result<Tensor, String> {
        let shape: Vec<usize> = self.extents.into_iter().flatten().collect();
        let numbers = self.numbers;
        let all = |test: fn(&Number) -> bool| !numbers.is_empty() && numbers.iter().all(test);
        let tensor = if all(|number| matches!(number, Number::Bool(_))) {
            Tensor::new(
                &shape,
                &each(&numbers, |number| match number {
                    Number::Bool(value) => Some(*value),
                    _ => None,
                }),
            )
        } else if numbers.iter().any(|number| matches!(number, Number::Bool(_))) {
            return Err("a tensor has either bool or numbers".to_owned());
        } else if all(|number| as_int(number).is_some()) {
            Tensor::new(&shape, &each(&numbers, as_int))
        } else if all(|number| as_unsigned(number).is_some()) {
            Tensor::new(&shape, &each(&numbers, as_unsigned))
        } else if all(|number| matches!(number, Number::Int(_) | Number::Unsigned(_))) {
            return Err("these numbers fit neither int64 nor uint64".to_owned());
        } else {
            Tensor::new(&shape, &each(&numbers, as_float))
        };
        tensor.map_err(|error| error.to_string())
    }
}

const RAGGED: &str = "the sequences of a tensor have one length at each level";

fn each<T>(numbers: &[Number], as_type: impl FnMut(&Number) -> Option<T>) -> Vec<T> {
    numbers.iter().filter_map(as_type).collect()
}

fn as_int(number: &Number) -> Option<i64> {
    match *number {
        Number::Int(value) => Some(value),
        Number::Unsigned(value) => value.try_into().ok(),
        _ => None,
    }
}

fn as_unsigned(number: &Number) -> Option<u64> {
    match *number {
        Number::Int(value) => value.try_into().ok(),
        Number::Unsigned(value) => Some(value),
        _ => None,
    }
}

fn as_float(number: &Number) -> Option<f64> {
    match *number {
        Number::Bool(_) => None,
        Number::Int(value) => Some(value as f64),
        Number::Unsigned(value) => Some(value as f64),
        Number::Single(value) => Some(value.into()),
        Number::Float(value) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float16_is_the_float32_of_the_same_value() {
        for (half, single) in [
            (0x0000, 0.0_f32),
            (0x8000, -0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7BFF, 65504.0),
            (0x0400, 2.0_f32.powi(-14)),
            (0x0001, 2.0_f32.powi(-24)),
            (0x83FF, -1023.0 * 2.0_f32.powi(-24)),
            (0x7C00, f32::INFINITY),
            (0xFC00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half_to_single(half).to_bits(), single.to_bits(), "{half:#x}");
        }
        assert_eq!(half_to_single(0xFE01).to_bits(), 0xFFC0_2000, "what a NaN says");
        // Halves are ordered as their bits are, so each has a value of its own.
        let values: Vec<f32> = (0..0x7C00).map(half_to_single).collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn an_array_without_elements_has_no_rows_whatever_its_shape_says() {
        let tensor = Tensor::new::<f64>(&[1 << 40, 0], &[]).unwrap();
        let json = serde_json::to_string(&tensor).unwrap();
        assert_eq!(json, "[]");
    }
}
