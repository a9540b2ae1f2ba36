//! The arrays of the crate `ndarray`.

use ndarray::{ArrayBase, ArrayD, ArrayView, ArrayViewMutD, Data, Dimension, IxDyn};

use crate::Reserved;
use crate::error::{ElementsError, ReservedError, TensorError};
use crate::wire::{Element, Tensor, TensorRef};

impl Tensor {
    /// A tensor of an array's elements, in C order, whatever strides the array has: one copy.
    ///
    /// With the feature `ndarray`.
    ///
    /// ```
    /// use ndarray::{Array2, s};
    /// use nearcall::Tensor;
    ///
    /// let image = Array2::from_shape_fn((4, 6), |(y, x)| (10 * y + x) as u8);
    /// let mirrored = Tensor::from_array(&image.slice(s![..2, ..;-1]))?;
    /// assert_eq!(mirrored.shape(), [2, 6]);
    /// assert_eq!(mirrored.bytes(), [5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10]);
    /// # Ok::<(), nearcall::error::TensorError>(())
    /// ```
    ///
    /// # Errors
    /// More than 32 dimensions; a shape that no memory holds, which an array that was made larger by
    /// `broadcast` can have.
    pub fn from_array<S, D>(array: &ArrayBase<S, D>) -> Result<Self, TensorError>
    where
        S: Data,
        S::Elem: Element,
        D: Dimension,
    {
        let (dtype, shape) = (S::Elem::DTYPE, array.shape());
        let needed = Self::bytes_needed(dtype, shape)?;
        let mut bytes = Vec::new();
        usize::try_from(needed)
            .ok()
            .and_then(|needed| bytes.try_reserve_exact(needed).ok())
            .ok_or_else(|| TensorError::Overflow { dtype, shape: shape.to_vec() })?;
        copy_in_c_order(&array.view(), &mut |run| bytes.extend_from_slice(run));
        Self::from_bytes(dtype, shape, bytes)
    }

    /// The elements as an array in C order: a copy.
    ///
    /// With the feature `ndarray`.
    ///
    /// ```
    /// use ndarray::array;
    /// use nearcall::Tensor;
    ///
    /// let tensor = Tensor::new(&[2, 2], &[1.0_f32, 2.0, 3.0, 4.0])?;
    /// assert_eq!(tensor.to_array::<f32>()?, array![[1.0, 2.0], [3.0, 4.0]].into_dyn());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When they are of another type.
    pub fn to_array<T: Element>(&self) -> Result<ArrayD<T>, ElementsError> {
        array_of(self.shape(), self.to_vec()?)
    }
}

impl TensorRef<'_> {
    /// The elements as an array in C order: a copy, since an answer's bytes start at any address.
    ///
    /// With the feature `ndarray`.
    ///
    /// ```
    /// use ndarray::{Array1, Ix1, array};
    /// use nearcall::{Args, Engine, Signature, Task, Tensor, ValueRef};
    /// use std::time::Duration;
    ///
    /// let engine = Engine::builder("steps:cumulate")
    ///     .signature(Signature::new().value("steps"))
    ///     .start_with(|args: &Args<'_>| Ok(args.get("steps").unwrap().clone()))?;
    ///
    /// let steps: Array1<f64> = array![0.5, 1.0, 0.25];
    /// let value = Tensor::from_array(&steps)?.into();
    /// let answer = engine.call(&Task::new().value(&value), Duration::from_secs(10))?;
    /// let ValueRef::Tensor(tensor) = answer.value() else { panic!("{:?}", answer.value()) };
    /// assert_eq!(tensor.to_array::<f64>()?.into_dimensionality::<Ix1>()?, steps);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When they are of another type.
    pub fn to_array<T: Element>(&self) -> Result<ArrayD<T>, ElementsError> {
        array_of(&self.shape(), self.to_vec()?)
    }
}

impl Reserved<'_> {
    /// Writes an array into the tensor at `index`, whatever strides it has: the one copy that there is.
    ///
    /// With the feature `ndarray`.
    ///
    /// ```
    /// use ndarray::array;
    /// # use nearcall::{Args, DType, Engine, Signature, Task, TensorSpec, ValueRef};
    /// # use std::time::Duration;
    /// # let engine = Engine::builder("steps:cumulate")
    /// #     .signature(Signature::new().value("steps"))
    /// #     .start_with(|args: &Args<'_>| Ok(args.get("steps").unwrap().clone()))?;
    /// let steps = array![[1.0_f32, 2.0], [3.0, 4.0]];
    /// let mut place = engine.reserve(&[TensorSpec::input(DType::F32, &[2, 2])])?;
    /// place.write_array(0, &steps.t())?;
    /// let answer = place.call(&Task::new().reserved(0), Duration::from_secs(10))?;
    /// # let ValueRef::Tensor(tensor) = answer.value() else { panic!("{:?}", answer.value()) };
    /// # assert_eq!(tensor.to_array::<f32>()?, steps.t().into_dyn());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// An array of another type or shape, an output, or no such tensor; nothing is written then.
    pub fn write_array<S, D>(
        &mut self,
        index: usize,
        array: &ArrayBase<S, D>,
    ) -> Result<(), ReservedError>
    where
        S: Data,
        S::Elem: Element,
        D: Dimension,
    {
        self.check_elements::<S::Elem>(index)?;
        let found = self.shape(index)?;
        if found != array.shape() {
            let (given, found) = (array.shape().to_vec(), found.to_vec());
            return Err(ReservedError::Shape { index, given, found });
        }
        let (mut at, mut written) = (0, self.write_bytes(index, 0, &[]));
        copy_in_c_order(&array.view(), &mut |run| {
            // The first error, if any, is that of the first run: nothing was written.
            if written.is_ok() {
                written = self.write_bytes(index, at, run);
                at += run.len();
            }
        });
        written
    }

    /// The tensor at `index` as an array to write into.
    ///
    /// With the feature `ndarray`.
    ///
    /// # Errors
    /// Elements of another type, an output, or no such tensor.
    ///
    /// # Safety
    /// As for [`bytes_mut`](Self::bytes_mut). And if `T` is `bool`, its bytes must be 0 or 1: fresh memory
    /// may have others, from an earlier task.
    pub unsafe fn array_mut<T: Element>(
        &mut self,
        index: usize,
    ) -> Result<ArrayViewMutD<'_, T>, ReservedError> {
        self.check_elements::<T>(index)?;
        let shape = IxDyn(self.shape(index)?);
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.bytes_mut(index) }?;
        // SAFETY: a reserved tensor starts at a multiple of 64 and has as many elements as its shape
        // says, in C order. They are borrowed as long as the result is, and any bytes are a `T`, by the
        // caller's promise also a `bool`. Without elements nothing is read there.
        Ok(unsafe { ArrayViewMutD::from_shape_ptr(shape, bytes.as_mut_ptr().cast()) })
    }
}

fn array_of<T: Element>(shape: &[usize], elements: Vec<T>) -> Result<ArrayD<T>, ElementsError> {
    // It does fit: a tensor has as many elements as its shape says, and no more than an `isize` counts.
    ArrayD::from_shape_vec(IxDyn(shape), elements)
        .map_err(|_| ElementsError { asked: T::DTYPE, found: T::DTYPE })
}

/// Bytes from which on a row is handed over by itself, and that are gathered of shorter ones.
const RUN: usize = 256;

/// Hands the elements' bytes to `sink` in C order, in runs that are as long as the strides allow.
pub(crate) fn copy_in_c_order<T: Element, D: Dimension>(
    view: &ArrayView<'_, T, D>,
    sink: &mut impl FnMut(&[u8]),
) {
    if let Some(all) = view.as_slice() {
        return sink(T::bytes(all));
    }
    // Rows are all of one length and stride, so either each is a run or all are gathered.
    let mut gathered = Vec::new();
    for row in view.rows() {
        if let Some(row) = row.as_slice().filter(|row| size_of_val(*row) >= RUN) {
            sink(T::bytes(row));
            continue;
        }
        for element in row {
            gathered.push(*element);
            if size_of_val(&gathered[..]) >= RUN {
                sink(T::bytes(&gathered));
                gathered.clear();
            }
        }
    }
    if !gathered.is_empty() {
        sink(T::bytes(&gathered));
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, Array2, ArrayViewD, Axis, Ix0, Slice, arr0, s};

    use super::*;
    use crate::wire::{DType, MAX_RANK, ValueRef};

    #[track_caller]
    fn arrives(array: &ArrayViewD<'_, i16>) {
        let tensor = Tensor::from_array(array).unwrap();
        assert_eq!(tensor.shape(), array.shape());
        assert_eq!(tensor.to_vec(), Ok(array.iter().copied().collect::<Vec<i16>>()));
        assert_eq!(tensor.to_array(), Ok(array.to_owned()));
    }

    #[test]
    fn whatever_the_strides_the_elements_arrive_in_c_order() {
        // Rows shorter than a run, and longer.
        for shape in [[4, 3, 5], [3, 2, 200], [2, 1, 1], [1, 300, 2], [2, 0, 3]] {
            let mut next = 0;
            let all = Array::from_shape_simple_fn(shape, || {
                next += 1;
                next
            });
            for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let turned = all.view().permuted_axes(axes);
                for axis in (0..3).map(Axis) {
                    for (start, step) in [(0, 1), (0, 2), (0, -1), (1, 1), (1, -2), (0, 3)] {
                        let slice = Slice::new(start.min(turned.len_of(axis) as isize), None, step);
                        let some = turned.slice_axis(axis, slice);
                        arrives(&some.into_dyn());
                        arrives(&some.slice(s![..;-1, .., ..]).into_dyn());
                    }
                    arrives(&turned.insert_axis(axis).into_dyn());
                }
                arrives(&turned.as_standard_layout().view().into_dyn());
            }
        }
        let row = Array::from_iter(0..200);
        for row in [row.slice(s![..]), row.slice(s![..3]), row.slice(s![7..8])] {
            arrives(&row.broadcast((4, row.len())).unwrap().into_dyn());
            arrives(&row.broadcast((4, row.len())).unwrap().reversed_axes().into_dyn());
        }
        arrives(&arr0(7).view().into_dyn());
        arrives(&row.slice(s![3]).into_dyn());
    }

    /// The lengths of the runs in which an array's elements come, in bytes.
    fn runs<D: Dimension>(array: &ArrayView<'_, u8, D>) -> Vec<usize> {
        let mut runs = Vec::new();
        copy_in_c_order(array, &mut |run| runs.push(run.len()));
        runs
    }

    #[test]
    fn what_lies_together_is_handed_over_together() {
        let image = Array2::<u8>::zeros((1000, 1000));
        assert_eq!(runs(&image.view()), [1_000_000]);
        assert_eq!(runs(&image.slice(s![10..20, ..])), [10_000]);
        assert_eq!(runs(&image.slice(s![10..13, 5..800])), [795, 795, 795]);
        // And what does not, not one by one.
        assert!(runs(&image.t()).iter().rev().skip(1).all(|run| *run == RUN));
        assert!(runs(&image.slice(s![.., 3..4])).iter().rev().skip(1).all(|run| *run == RUN));
    }

    #[test]
    fn every_bit_of_a_float_arrives_both_ways() {
        let bits = [0x7FF0_0000_0000_0001_u64, 0xFFF8_0000_0000_0123, 1 << 63, 1];
        let tensor =
            Tensor::from_array(&Array::from_iter(bits.map(f64::from_bits)).slice(s![..;-1]));
        let array = tensor.unwrap().to_array::<f64>().unwrap();
        assert!(array.iter().map(|number| number.to_bits()).eq(bits.into_iter().rev()));

        let bits = [0x7F80_0001_u32, 0xFFC0_0123, 1 << 31, 1];
        let tensor = Tensor::from_array(&Array::from_iter(bits.map(f32::from_bits)));
        let array = tensor.unwrap().to_array::<f32>().unwrap();
        assert!(array.iter().map(|number| number.to_bits()).eq(bits));
    }

    #[test]
    fn bools_are_bools_and_other_types_are_refused_by_name() {
        let array = Array2::from_shape_fn((2, 3), |(y, x)| y == x);
        let tensor = Tensor::from_array(&array.t()).unwrap();
        assert_eq!((tensor.dtype(), tensor.bytes()), (DType::Bool, &[1, 0, 0, 1, 0, 0][..]));
        assert_eq!(tensor.to_array(), Ok(array.t().to_owned().into_dyn()));
        let error = tensor.to_array::<u8>().unwrap_err();
        assert_eq!(error.to_string(), "the tensor's elements are bool, not uint8");
    }

    #[test]
    fn a_shape_that_no_tensor_has_is_an_error_before_anything_is_copied() {
        let error =
            |array: &ArrayViewD<'_, f64>| Tensor::from_array(array).unwrap_err().to_string();
        let one = arr0(1.5).into_dyn();
        let deep = vec![1; MAX_RANK + 1];
        assert_eq!(
            error(&one.broadcast(deep).unwrap()),
            "a tensor of 33 dimensions: there can be 32"
        );
        arrives(&arr0(1).into_dyn().broadcast(vec![1; MAX_RANK]).unwrap());
        // More than an address has bits for; more than any machine has.
        for elements in [1_usize << 60, 1 << 50] {
            assert_eq!(
                error(&one.broadcast(vec![elements]).unwrap()),
                format!("no memory holds a tensor of float64 with the shape [{elements}]")
            );
        }
    }

    #[test]
    fn a_tensor_without_elements_or_dimensions_is_such_an_array() {
        for shape in [&[0][..], &[3, 0, 5], &[0, 1 << 59]] {
            let array = Tensor::new::<f64>(shape, &[]).unwrap().to_array::<f64>().unwrap();
            assert_eq!((array.shape(), array.len()), (shape, 0));
            assert_eq!(Tensor::from_array(&array).unwrap().shape(), shape);
        }
        let array = Tensor::new(&[], &[2.5]).unwrap().to_array::<f64>().unwrap();
        assert_eq!(array.into_dimensionality::<Ix0>().unwrap(), arr0(2.5));
    }

    #[test]
    fn an_answers_tensor_is_read_at_any_address() {
        let mut memory =
            vec![10, DType::U32 as u8, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        memory.extend([7_u32, 1 << 31].iter().flat_map(|number| number.to_ne_bytes()));
        for _ in 0..4 {
            let encoding = &memory[memory.len() - 27..];
            let ValueRef::Tensor(tensor) = ValueRef::decode(encoding).unwrap() else { panic!() };
            assert_eq!(tensor.to_array(), Ok(ndarray::array![[7_u32, 1 << 31]].into_dyn()));
            assert!(tensor.to_array::<i32>().is_err());
            memory.insert(0, 0);
        }
    }

    #[test]
    fn an_array_is_written_in_place_in_c_order_or_not_at_all() {
        use crate::error::ReservedError;
        use crate::{Args, Engine, Signature, Task, TensorSpec, Value};
        let model = |args: &Args<'_>| Ok(Value::Tuple(args.values().to_vec()));
        let signature = Signature::new().value("x").value("y").value("z");
        let engine = Engine::builder("m:f").signature(signature).start_with(model).unwrap();
        let specs = [
            TensorSpec::input(DType::I16, &[40, 30]),
            TensorSpec::input(DType::Bool, &[2]),
            TensorSpec::input(DType::F64, &[3, 0]),
            TensorSpec::output(DType::I16, &[40, 30]),
        ];
        let mut place = engine.reserve(&specs).unwrap();
        let array = Array2::from_shape_fn((30, 40), |(row, column)| (100 * row + column) as i16);
        place.write_array(0, &array.t()).unwrap();
        place.write_array(1, &Array::from_elem(1, true).broadcast(2).unwrap()).unwrap();
        place.write_array(2, &Array2::<f64>::zeros((3, 0))).unwrap();
        let shape = ReservedError::Shape { index: 0, given: vec![30, 40], found: vec![40, 30] };
        assert_eq!(place.write_array(0, &array), Err(shape));
        let output = Err(ReservedError::Output { index: 3 });
        assert_eq!(place.write_array(3, &array.t()), output);
        let (given, found) = (DType::I16, DType::Bool);
        let elements = ReservedError::Elements { index: 1, given, found };
        assert_eq!(place.write_array(1, &array), Err(elements));
        // SAFETY: the workers are threads of this test's, which only read.
        let mut view = unsafe { place.array_mut::<i16>(0) }.unwrap();
        assert_eq!(view, array.t().into_dyn());
        view[[39, 29]] = -1;
        // SAFETY: as above.
        assert!(unsafe { place.array_mut::<f64>(2) }.unwrap().is_empty());
        // SAFETY: as above.
        assert!(unsafe { place.array_mut::<u16>(0) }.is_err());
        let task = Task::new().reserved(0).reserved(1).reserved(2);
        let answer = place.call(&task, std::time::Duration::from_secs(10)).unwrap();
        let Some(ValueRef::Tensor(tensor)) = answer.get(0) else { panic!() };
        let mut expected = array.t().to_owned();
        expected[[39, 29]] = -1;
        assert_eq!(tensor.to_array(), Ok(expected.into_dyn()));
    }
}
