//! The arrays of arrow-rs, and whoever's through Arrow's C data interface.
//!
//! A tensor with one dimension is an array of numbers or of bools. Each further dimension is a level of
//! lists of one length. Arrow's nulls have no place in a tensor.

use std::sync::Arc;

use arrow_array::ffi::{self, FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::{Array, ArrayRef, FixedSizeListArray, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, Field};

use crate::error::InteropError;
use crate::wire::{DType, Tensor, TensorRef};

impl Tensor {
    /// A tensor of an Arrow array without nulls: one copy.
    ///
    /// An array of bools, integers or floats (16 bits too) has one dimension; lists of a fixed size
    /// (`FixedSizeList`) of them have one more, and so on. A sliced array gives what the slice has.
    ///
    /// With the feature `arrow`.
    ///
    /// ```
    /// use arrow_array::{Array, Float64Array};
    /// use nearcall::Tensor;
    ///
    /// let prices = Float64Array::from(vec![1.5, 2.5, 3.5]);
    /// let tensor = Tensor::from_arrow(&prices.slice(1, 2))?;
    /// assert_eq!(tensor.to_vec::<f64>()?, [2.5, 3.5]);
    ///
    /// let gaps = Float64Array::from(vec![Some(1.5), None]);
    /// let error = Tensor::from_arrow(&gaps).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "1 of 2 items are null, and a tensor has none: fill or drop them first"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Nulls, at any depth; items of other types: text, dates, decimals, lists of any size; more than 32
    /// dimensions.
    pub fn from_arrow(array: &dyn Array) -> Result<Self, InteropError> {
        tensor_of(dtype_of(array.data_type())?, array.to_data())
    }

    /// A tensor of an array that came through Arrow's C data interface, from any library in this process.
    ///
    /// What it takes, and how, is as in [`from_arrow`](Self::from_arrow). The array is released when the
    /// elements have been copied, or there was an error.
    ///
    /// With the feature `arrow`.
    ///
    /// ```
    /// use nearcall::Tensor;
    ///
    /// let tensor = Tensor::new(&[2, 3], &[1_i32, 2, 3, 4, 5, 6])?;
    /// let (array, schema) = tensor.to_ffi()?; // as another library would give them
    /// // SAFETY: `to_ffi` makes structures that are as the interface says.
    /// let same = unsafe { Tensor::from_ffi(array, &schema) }?;
    /// assert_eq!(same, tensor);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`from_arrow`](Self::from_arrow), and structures that were released before.
    ///
    /// # Safety
    /// Array and schema must be as Arrow's C data interface says, and belong together: the pointers valid
    /// until the array is released, the buffers as long as type, length and offset need, and written to by
    /// nobody.
    pub unsafe fn from_ffi(
        array: FFI_ArrowArray,
        schema: &FFI_ArrowSchema,
    ) -> Result<Self, InteropError> {
        if array.is_released() {
            return Err(InteropError::Released { what: "array" });
        }
        if schema.release().is_none() {
            return Err(InteropError::Released { what: "schema" });
        }
        // Arrow takes some structures apart with assertions: those of types that we take it has none for.
        let data_type = DataType::try_from(schema).map_err(said_by_arrow)?;
        let dtype = dtype_of(&data_type)?;
        // SAFETY: our caller promises what this one asks for.
        let data = unsafe { ffi::from_ffi_and_data_type(array, data_type) };
        tensor_of(dtype, data.map_err(said_by_arrow)?)
    }

    /// The elements as an Arrow array: a copy.
    ///
    /// With one dimension an array of bools, integers or floats; with more, lists of a fixed size, whose
    /// items are declared nullable, as is the custom.
    ///
    /// With the feature `arrow`.
    ///
    /// ```
    /// use arrow_array::{Array, Int64Array};
    /// use nearcall::Tensor;
    ///
    /// let tensor = Tensor::new(&[3], &[1_i64, 2, 3])?;
    /// let array = tensor.to_arrow()?;
    /// assert_eq!(array.to_data(), Int64Array::from(vec![1, 2, 3]).to_data());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A tensor without dimensions; more than `i32::MAX` items in each list.
    pub fn to_arrow(&self) -> Result<ArrayRef, InteropError> {
        array_of(self.dtype(), self.shape(), self.bytes())
    }

    /// The elements for Arrow's C data interface, for any library in this process: a copy.
    ///
    /// The array is as in [`to_arrow`](Self::to_arrow). Whoever takes the structures releases them; if nobody
    /// does, dropping them does. A place to move them to comes from the other library, as with
    /// `pyarrow.Array._import_from_c` or polars' `Series._import_arrow_from_c`.
    ///
    /// With the feature `arrow`.
    ///
    /// # Errors
    /// As for [`to_arrow`](Self::to_arrow).
    pub fn to_ffi(&self) -> Result<(FFI_ArrowArray, FFI_ArrowSchema), InteropError> {
        ffi::to_ffi(&self.to_arrow()?.to_data()).map_err(said_by_arrow)
    }
}

impl TensorRef<'_> {
    /// The elements as an Arrow array, as in [`Tensor::to_arrow`]: a copy, since an answer's bytes start
    /// at any address.
    ///
    /// With the feature `arrow`.
    ///
    /// ```
    /// use arrow_array::cast::AsArray;
    /// use arrow_array::types::Float64Type;
    /// use arrow_array::Float64Array;
    /// use nearcall::{Args, Engine, Signature, Task, Tensor, ValueRef};
    /// use std::time::Duration;
    ///
    /// let engine = Engine::builder("prices:smooth")
    ///     .signature(Signature::new().value("prices"))
    ///     .start_with(|args: &Args<'_>| Ok(args.get("prices").unwrap().clone()))?;
    ///
    /// let prices = Float64Array::from(vec![1.5, 2.5, 3.5]);
    /// let value = Tensor::from_arrow(&prices)?.into();
    /// let answer = engine.call(&Task::new().value(&value), Duration::from_secs(10))?;
    /// let ValueRef::Tensor(tensor) = answer.value() else { panic!("{:?}", answer.value()) };
    /// assert_eq!(tensor.to_arrow()?.as_primitive::<Float64Type>(), &prices);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Tensor::to_arrow`].
    pub fn to_arrow(&self) -> Result<ArrayRef, InteropError> {
        array_of(self.dtype(), &self.shape(), self.bytes())
    }

    /// The elements for Arrow's C data interface, as in [`Tensor::to_ffi`].
    ///
    /// With the feature `arrow`.
    ///
    /// # Errors
    /// As for [`Tensor::to_arrow`].
    pub fn to_ffi(&self) -> Result<(FFI_ArrowArray, FFI_ArrowSchema), InteropError> {
        ffi::to_ffi(&self.to_arrow()?.to_data()).map_err(said_by_arrow)
    }
}

/// Arrow's name of a type of elements.
fn arrow_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::Boolean,
        DType::I8 => DataType::Int8,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::U8 => DataType::UInt8,
        DType::U16 => DataType::UInt16,
        DType::U32 => DataType::UInt32,
        DType::U64 => DataType::UInt64,
        DType::F16 => DataType::Float16,
        DType::F32 => DataType::Float32,
        DType::F64 => DataType::Float64,
    }
}

fn said_by_arrow(error: ArrowError) -> InteropError {
    InteropError::Arrow { reason: error.to_string() }
}

/// No array that Arrow has checked is like that.
fn broken() -> InteropError {
    InteropError::Arrow { reason: "the array is shorter than it says".to_owned() }
}

/// The type of the elements of such an array, or of what its lists have in the end.
fn dtype_of(mut found: &DataType) -> Result<DType, InteropError> {
    while let DataType::FixedSizeList(item, _) = found {
        found = item.data_type();
    }
    let dtype = DType::ALL.iter().copied().find(|dtype| arrow_type(*dtype) == *found);
    dtype.ok_or_else(|| InteropError::Type { found: found.to_string() })
}

fn tensor_of(dtype: DType, mut data: ArrayData) -> Result<Tensor, InteropError> {
    let mut shape = vec![data.len()];
    loop {
        if data.null_count() > 0 {
            return Err(InteropError::Nulls { nulls: data.null_count(), items: data.len() });
        }
        let DataType::FixedSizeList(_, size) = data.data_type() else { break };
        let size = usize::try_from(*size).map_err(|_| broken())?;
        let items = data.child_data().first().ok_or_else(broken)?;
        let (start, len) = part(data.offset(), data.len(), size, items.len())?;
        data = items.slice(start, len);
        shape.push(size);
    }
    let bytes = elements_of(dtype, &data)?;
    Ok(Tensor::from_bytes(dtype, &shape, bytes)?)
}

/// The elements' bytes, one byte each for bools.
fn elements_of(dtype: DType, data: &ArrayData) -> Result<Vec<u8>, InteropError> {
    let buffer = data.buffers().first().ok_or_else(broken)?;
    if dtype == DType::Bool {
        part(data.offset(), data.len(), 1, buffer.len().saturating_mul(8))?;
        let bits = BooleanBuffer::new(buffer.clone(), data.offset(), data.len());
        return Ok(bits.iter().map(u8::from).collect());
    }
    let (start, len) = part(data.offset(), data.len(), dtype.size(), buffer.len())?;
    Ok(buffer[start..start + len].to_vec())
}

/// Where, in so many, the items are that have `size` each, and how many; an error if they go beyond.
fn part(
    offset: usize,
    len: usize,
    size: usize,
    there: usize,
) -> Result<(usize, usize), InteropError> {
    let start = offset.checked_mul(size).ok_or_else(broken)?;
    let len = len.checked_mul(size).ok_or_else(broken)?;
    let end = start.checked_add(len).ok_or_else(broken)?;
    if end > there { Err(broken()) } else { Ok((start, len)) }
}

fn array_of(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<ArrayRef, InteropError> {
    if shape.is_empty() {
        return Err(InteropError::NoDimensions);
    }
    let buffer = if dtype == DType::Bool {
        bytes.iter().map(|byte| *byte != 0).collect::<MutableBuffer>().into()
    } else {
        Buffer::from_slice_ref(bytes)
    };
    let len = bytes.len() / dtype.size();
    let data = ArrayData::try_new(arrow_type(dtype), len, None, 0, vec![buffer], Vec::new());
    let mut array = make_array(data.map_err(said_by_arrow)?);
    // From the innermost lists outwards.
    for (depth, &extent) in shape.iter().enumerate().skip(1).rev() {
        let size = i32::try_from(extent).map_err(|_| InteropError::Extent {
            shape: shape.to_vec(),
            extent,
            limit: i32::MAX as usize,
        })?;
        let lists = shape.iter().take(depth).product();
        let item = Arc::new(Field::new_list_field(array.data_type().clone(), true));
        let list = FixedSizeListArray::try_new_with_length(item, size, array, None, lists);
        array = Arc::new(list.map_err(said_by_arrow)?);
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int32Type;
    use arrow_array::{
        BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
        Int8Array, Int32Array, ListArray, NullArray, StringArray, TimestampSecondArray, UInt8Array,
    };
    use arrow_buffer::NullBuffer;

    use super::*;
    use crate::wire::{MAX_RANK, ValueRef};

    /// Through the C data interface and back.
    fn through_ffi(array: &dyn Array) -> Result<Tensor, InteropError> {
        let (array, schema) = ffi::to_ffi(&array.to_data()).unwrap();
        // SAFETY: Arrow has made them of an array.
        unsafe { Tensor::from_ffi(array, &schema) }
    }

    /// By either way in, which are to be the same.
    fn taken(array: &dyn Array) -> Result<Tensor, InteropError> {
        let tensor = Tensor::from_arrow(array);
        assert_eq!(through_ffi(array), tensor, "{array:?}");
        tensor
    }

    fn lists(size: i32, items: ArrayRef, nulls: Option<NullBuffer>) -> FixedSizeListArray {
        let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
        FixedSizeListArray::new(item, size, items, nulls)
    }

    #[test]
    fn tensors_of_every_type_come_back_from_arrow_as_they_went_in() {
        for &dtype in DType::ALL {
            for shape in
                [&[6][..], &[2, 3], &[3, 2, 1], &[0], &[0, 3], &[3, 0], &[3, 0, 2], &[1; 32]]
            {
                let count = shape.iter().product::<usize>();
                // As floats some of these are NaNs with a payload.
                let bytes = (0..count * dtype.size()).map(|at| match dtype {
                    DType::Bool => (at % 3 == 0).into(),
                    _ => 0xFF_u8.wrapping_sub((at % 5) as u8),
                });
                let tensor = Tensor::from_bytes(dtype, shape, bytes.collect()).unwrap();
                let array = tensor.to_arrow().unwrap();
                assert_eq!(array.len(), shape[0]);
                assert_eq!(taken(&array), Ok(tensor.clone()));
                let (array, schema) = tensor.to_ffi().unwrap();
                // SAFETY: `to_ffi` has made them.
                assert_eq!(unsafe { Tensor::from_ffi(array, &schema) }, Ok(tensor));
            }
        }
    }

    #[test]
    fn every_bit_of_a_float_arrives_both_ways() {
        let bits = [0x7FF0_0000_0000_0001_u64, 0xFFF8_0000_0000_0123, 1 << 63, 1];
        let array = Float64Array::from_iter_values(bits.map(f64::from_bits));
        let tensor = taken(&array).unwrap();
        assert_eq!(
            tensor.to_vec::<f64>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            bits
        );
        assert_eq!(tensor.to_arrow().unwrap().to_data().buffers()[0], *array.values().inner());

        let bits = [0x7F80_0001_u32, 0xFFC0_0123, 1 << 31, 1];
        let tensor = taken(&Float32Array::from_iter_values(bits.map(f32::from_bits))).unwrap();
        assert_eq!(
            tensor.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            bits
        );
    }

    #[test]
    fn a_bool_is_true_unless_its_byte_is_0() {
        let tensor = Tensor::from_bytes(DType::Bool, &[4], vec![0, 1, 2, 255]).unwrap();
        let expected = BooleanArray::from(vec![false, true, true, true]);
        assert_eq!(tensor.to_arrow().unwrap().to_data(), expected.to_data());
        assert_eq!(taken(&expected).unwrap().bytes(), [0, 1, 1, 1]);
    }

    #[test]
    fn a_slice_gives_what_it_has_and_nothing_beside_it() {
        let numbers: Vec<i32> = (0..24).collect();
        let array: ArrayRef = Arc::new(Int32Array::from(numbers.clone()));
        let pairs = lists(2, array.clone(), None);
        let cubes = lists(3, Arc::new(pairs.clone()), None);
        let bools: Vec<bool> = numbers.iter().map(|number| number % 3 == 1).collect();
        let flags = BooleanArray::from(bools.clone());
        for start in 0..24 {
            for len in 0..=24 - start {
                let part = taken(&array.slice(start, len)).unwrap();
                assert_eq!(part, Tensor::new(&[len], &numbers[start..][..len]).unwrap());
                let part = taken(&flags.slice(start, len)).unwrap();
                assert_eq!(part, Tensor::new(&[len], &bools[start..][..len]).unwrap());
                // Slices of what the lists have, and of the lists.
                if len % 6 == 0 && start + len <= 12 {
                    let some = lists(2, array.slice(start, len), None).slice(len / 6, len / 3);
                    let expected = &numbers[start + len / 3..][..len / 3 * 2];
                    let expected = Tensor::new(&[len / 3, 2], expected).unwrap();
                    assert_eq!(taken(&some), Ok(expected));
                }
            }
        }
        for start in 0..4 {
            let part = taken(&cubes.slice(start, 4 - start)).unwrap();
            assert_eq!(part, Tensor::new(&[4 - start, 3, 2], &numbers[6 * start..]).unwrap());
        }
        // An offset in the data itself, as others have it.
        let data = pairs.to_data();
        let data = data.into_builder().offset(3).len(5).build().unwrap();
        let part = tensor_of(DType::I32, data);
        assert_eq!(part, Ok(Tensor::new(&[5, 2], &numbers[6..16]).unwrap()));
    }

    #[test]
    fn nulls_are_refused_with_their_number_wherever_they_are() {
        let nulls = |nulls, items| Err(InteropError::Nulls { nulls, items });
        let gaps = Int32Array::from(vec![Some(1), None, Some(3), None, None, Some(6)]);
        assert_eq!(taken(&gaps), nulls(3, 6));
        assert_eq!(taken(&gaps.slice(1, 3)), nulls(2, 3));
        assert_eq!(taken(&BooleanArray::from(vec![None, Some(true)])), nulls(1, 2));
        assert_eq!(taken(&lists(2, Arc::new(gaps.clone()), None)), nulls(3, 6));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5, 6]));
        let mask = Some(NullBuffer::from(vec![true, false, true]));
        let pairs = lists(2, numbers, mask);
        assert_eq!(taken(&pairs), nulls(1, 3));
        // Not those beside a slice, nor a mask that hides nothing.
        assert_eq!(taken(&gaps.slice(2, 1)), Ok(Tensor::new(&[1], &[3]).unwrap()));
        assert_eq!(taken(&pairs.slice(2, 1)), Ok(Tensor::new(&[1, 2], &[5, 6]).unwrap()));
        let late = Int32Array::from(vec![None, Some(1), Some(2), Some(3)]);
        let data = lists(2, Arc::new(late), None).to_data();
        let data = data.into_builder().offset(1).len(1).build().unwrap();
        assert_eq!(tensor_of(DType::I32, data), Ok(Tensor::new(&[1, 2], &[2, 3]).unwrap()));
        let mask = Some(NullBuffer::new_valid(1));
        let whole = Int32Array::new(vec![7].into(), mask);
        assert_eq!(taken(&whole), Ok(Tensor::new(&[1], &[7]).unwrap()));
    }

    #[test]
    fn items_that_no_tensor_has_are_refused_by_arrows_name() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let some_lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let words: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
        for (array, name) in [
            (text.clone(), "Utf8"),
            (Arc::new(lists(1, text, None)), "Utf8"),
            (Arc::new(Date32Array::from(vec![1])), "Date32"),
            (Arc::new(TimestampSecondArray::from(vec![1])), "Timestamp(s)"),
            (Arc::new(Decimal128Array::from(vec![1])), "Decimal128(38, 10)"),
            (Arc::new(some_lists), "List(Int32)"),
            (Arc::new(words), "Dictionary(Int32, Utf8)"),
            (Arc::new(NullArray::new(3)), "Null"),
        ] {
            assert_eq!(taken(&array), Err(InteropError::Type { found: name.to_owned() }));
        }
    }

    #[test]
    fn shapes_that_one_side_does_not_have_are_refused_with_the_figures() {
        let alone = Tensor::new(&[], &[1.5]).unwrap();
        assert_eq!(alone.to_arrow().unwrap_err(), InteropError::NoDimensions);
        assert_eq!(alone.to_ffi().unwrap_err(), InteropError::NoDimensions);

        let wide = Tensor::new::<u8>(&[0, 1 << 31], &[]).unwrap();
        assert_eq!(
            wide.to_arrow().unwrap_err().to_string(),
            "the shape [0, 2147483648] has an extent of 2147483648 after its first, Arrow's lists have \
             2147483647 items at most: give it another shape, with one dimension say"
        );
        let long = Tensor::new::<u8>(&[1 << 31, 0], &[]).unwrap();
        assert_eq!(taken(&long.to_arrow().unwrap()), Ok(long));
        let most = Tensor::new::<u8>(&[0, i32::MAX as usize], &[]).unwrap();
        assert_eq!(taken(&most.to_arrow().unwrap()), Ok(most));

        let mut deep: ArrayRef = Arc::new(UInt8Array::from(vec![1]));
        for _ in 1..MAX_RANK {
            deep = Arc::new(lists(1, deep, None));
        }
        assert_eq!(taken(&deep), Ok(Tensor::new(&[1; MAX_RANK], &[1_u8]).unwrap()));
        let error = taken(&lists(1, deep, None)).unwrap_err();
        assert_eq!(error.to_string(), "a tensor of 33 dimensions: there can be 32");
    }

    #[test]
    fn what_came_through_the_c_interface_is_released_whatever_becomes_of_it() {
        let fine = Int32Array::from(vec![1, 2, 3]);
        let gaps = Int32Array::from(vec![Some(1), None]);
        let days = Date32Array::from(vec![1]);
        for array in [&fine as &dyn Array, &gaps, &days] {
            let buffer = array.to_data().buffers()[0].clone();
            let before = buffer.strong_count();
            let _ = through_ffi(array);
            assert_eq!(buffer.strong_count(), before, "{array:?}");
        }
    }

    #[test]
    fn a_structure_that_was_released_is_an_error() {
        let (_, schema) = Tensor::new(&[1], &[1]).unwrap().to_ffi().unwrap();
        // SAFETY: what is released is not looked at.
        let error = unsafe { Tensor::from_ffi(FFI_ArrowArray::empty(), &schema) }.unwrap_err();
        assert_eq!(error, InteropError::Released { what: "array" });
        let (array, _) = Tensor::new(&[1], &[1]).unwrap().to_ffi().unwrap();
        // SAFETY: what is released is not looked at.
        let error = unsafe { Tensor::from_ffi(array, &FFI_ArrowSchema::empty()) }.unwrap_err();
        assert_eq!(error, InteropError::Released { what: "schema" });
    }

    #[test]
    fn an_array_that_is_shorter_than_it_says_is_an_error() {
        let short = |data_type: DataType, buffers: Vec<Buffer>, children: Vec<ArrayData>| {
            let data = ArrayData::builder(data_type.clone()).len(5).offset(4).buffers(buffers);
            // SAFETY: nothing but our own checks reads it.
            let data = unsafe { data.child_data(children).build_unchecked() };
            tensor_of(dtype_of(&data_type).unwrap(), data)
        };
        let bytes = |len: usize| vec![Buffer::from(vec![0_u8; len])];
        let pairs = DataType::new_fixed_size_list(DataType::Int8, 2, true);
        let items = |len: i8| vec![Int8Array::from_iter_values(0..len).to_data()];
        assert_eq!(short(DataType::Int32, bytes(35), Vec::new()), Err(broken()));
        assert!(short(DataType::Int32, bytes(36), Vec::new()).is_ok());
        assert_eq!(short(DataType::Boolean, bytes(1), Vec::new()), Err(broken()));
        assert!(short(DataType::Boolean, bytes(2), Vec::new()).is_ok());
        assert_eq!(short(DataType::Int8, Vec::new(), Vec::new()), Err(broken()));
        assert_eq!(short(pairs.clone(), Vec::new(), items(17)), Err(broken()));
        assert!(short(pairs.clone(), Vec::new(), items(18)).is_ok());
        assert_eq!(short(pairs, Vec::new(), Vec::new()), Err(broken()));
    }

    #[test]
    fn an_answers_tensor_is_read_at_any_address() {
        let numbers = [-0.0, 1.5, f64::NAN];
        let expected = Float64Array::from_iter_values(numbers);
        let mut memory = vec![10, DType::F64 as u8, 1, 3, 0, 0, 0, 0, 0, 0, 0];
        memory.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        for _ in 0..8 {
            let encoding = &memory[memory.len() - 35..];
            let ValueRef::Tensor(tensor) = ValueRef::decode(encoding).unwrap() else { panic!() };
            let data = tensor.to_arrow().unwrap().to_data();
            assert_eq!(data.buffers()[0], *expected.values().inner());
            let (array, schema) = tensor.to_ffi().unwrap();
            // SAFETY: `to_ffi` has made them.
            assert_eq!(unsafe { Tensor::from_ffi(array, &schema) }, Ok(tensor.to_owned()));
            memory.insert(0, 0);
        }
    }
}
