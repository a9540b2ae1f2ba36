//! Numbers as JSON: single ones, and tensors as the nested lists that numpy's `tolist` makes.

use nearcall::{DType, Element, TensorRef};
use serde::Serialize;

use super::problem::Problem;

/// The most lists in one dimension of a tensor without elements, which can have any number of them
/// and takes no bytes.
const MAX_EMPTY_LISTS: usize = 1 << 16;

/// Appends what always has a form in JSON: text, bools, ints, finite floats, and structs of them.
pub(crate) fn put<T: Serialize + ?Sized>(line: &mut Vec<u8>, value: &T) {
    // Neither these values nor a vector can fail.
    let _ = serde_json::to_writer(line, value);
}

/// Appends a float; NaN and the infinities are no JSON.
pub(crate) fn float(line: &mut Vec<u8>, value: f64) -> Result<(), Problem> {
    if !value.is_finite() {
        return Err(Problem::new(format!("the float {value}")));
    }
    put(line, &value);
    Ok(())
}

/// Appends a tensor. One of a single element, without a dimension, is that number.
pub(crate) fn tensor(line: &mut Vec<u8>, tensor: TensorRef<'_>) -> Result<(), Problem> {
    match tensor.dtype() {
        DType::Bool => elements(line, tensor, exact::<bool>),
        DType::I8 => elements(line, tensor, exact::<i8>),
        DType::I16 => elements(line, tensor, exact::<i16>),
        DType::I32 => elements(line, tensor, exact::<i32>),
        DType::I64 => elements(line, tensor, exact::<i64>),
        DType::U8 => elements(line, tensor, exact::<u8>),
        DType::U16 => elements(line, tensor, exact::<u16>),
        DType::U32 => elements(line, tensor, exact::<u32>),
        DType::U64 => elements(line, tensor, exact::<u64>),
        DType::F16 => {
            let halves = tensor.bytes().as_chunks().0.iter();
            let floats = halves.map(|bytes| half(u16::from_ne_bytes(*bytes)));
            nested(line, &tensor.shape(), floats, float)
        }
        // Not `exact`: the shortest text for a float of 32 bits is another number with 64.
        DType::F32 => elements(line, tensor, |line, value: f32| float(line, value.into())),
        DType::F64 => elements(line, tensor, float),
        other => Err(Problem::new(format!("a tensor of {other}"))),
    }
}

/// Appends one element.
type Put<T> = fn(&mut Vec<u8>, T) -> Result<(), Problem>;

fn exact<T: Serialize>(line: &mut Vec<u8>, value: T) -> Result<(), Problem> {
    put(line, &value);
    Ok(())
}

fn elements<T: Element>(
    line: &mut Vec<u8>,
    tensor: TensorRef<'_>,
    put: Put<T>,
) -> Result<(), Problem> {
    let elements = tensor.to_vec().map_err(|error| Problem::new(error.to_string()))?;
    nested(line, &tensor.shape(), elements.into_iter(), put)
}

fn nested<T>(
    line: &mut Vec<u8>,
    shape: &[usize],
    mut elements: impl Iterator<Item = T>,
    put: Put<T>,
) -> Result<(), Problem> {
    if let Some(empty) = shape.iter().position(|extent| *extent == 0) {
        let outer = shape.iter().take(empty);
        let lists = outer.fold(1, |lists: usize, extent| lists.saturating_mul(*extent));
        if lists > MAX_EMPTY_LISTS {
            let problem = format!("a tensor with the shape {shape:?}, {lists} empty lists");
            return Err(Problem::new(problem));
        }
    }
    lists(line, shape, &mut elements, put)
}

/// Appends one dimension, the others inside of it.
fn lists<T>(
    line: &mut Vec<u8>,
    shape: &[usize],
    elements: &mut impl Iterator<Item = T>,
    put: Put<T>,
) -> Result<(), Problem> {
    let [extent, inner @ ..] = shape else {
        // A tensor has as many elements as its shape says.
        let element = elements.next().ok_or_else(|| Problem::new("a tensor in part"))?;
        return put(line, element);
    };
    line.push(b'[');
    for index in 0..*extent {
        if index > 0 {
            line.push(b',');
        }
        lists(line, inner, elements, put).map_err(|problem| problem.in_list(index))?;
    }
    line.push(b']');
    Ok(())
}

/// A `float16`: a sign, 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    /// The smallest that is not zero, 2^-24.
    const SMALLEST: f64 = 1.0 / 16_777_216.0;
    /// From its exponent's bias to that of 64 bits.
    const BIAS: u64 = 1023 - 15;

    let (exponent, fraction) = ((bits >> 10) & 0x1F, bits & 0x3FF);
    let magnitude = match (exponent, fraction) {
        (0, _) => f64::from(fraction) * SMALLEST,
        (0x1F, 0) => f64::INFINITY,
        (0x1F, _) => f64::NAN,
        _ => f64::from_bits(((u64::from(exponent) + BIAS) << 52) | (u64::from(fraction) << 42)),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_the_float_that_it_is() {
        for (bits, expected) in [
            (0x0000, 0.0),
            (0x0001, 2_f64.powi(-24)),
            (0x03FF, 1023.0 / 2_f64.powi(24)),
            (0x0400, 2_f64.powi(-14)),
            (0x3555, 0.333_251_953_125),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65504.0),
            (0x7C00, f64::INFINITY),
            (0xFC00, f64::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), expected, "{bits:#x}");
        }
        assert!(half(0x8000).is_sign_negative());
        assert!(half(0x7C01).is_nan() && half(0xFE00).is_nan());
        let finite = (0..0x7C00).map(half);
        assert!(finite.is_sorted_by(|earlier, later| earlier < later));
    }
}
