//! The engine under the benchmark with arrays of float32: its models need numpy, and each way of
//! calling them checks its answer.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nearcall::{
    Answer, DType, Engine, Signature, Task, Tensor, TensorSpec, Value, ValueRef, WaitPolicy,
};

use crate::engine::{Home, PATIENCE, end};

/// Bytes of an element.
const ELEMENT: usize = size_of::<f32>();

/// Small numbers, one after the other: sums and products of them are exact.
#[derive(Debug, Default)]
struct Numbers(u16);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0 % 1_000 + 1;
        self.0.into()
    }
}

/// What tensors in place stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// As the engine has them unless told otherwise.
    Small,
    /// As `Builder::huge_pages` has them, where the kernel has any.
    Huge,
}

fn start(
    home: &Home,
    method: &str,
    signature: Signature,
    policy: WaitPolicy,
    pages: Pages,
) -> anyhow::Result<Engine> {
    let builder = home.builder("tensor_model:Model").method(method).signature(signature);
    let builder = builder.workers(1).wait_policy(policy).huge_pages(pages == Pages::Huge);
    builder.start().context("the engine could not be started")
}

/// Returns an array's first element.
pub struct First {
    engine: Engine,
    numbers: Numbers,
}

impl First {
    /// Starts the engine.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(home: &Home, policy: WaitPolicy) -> anyhow::Result<Self> {
        let engine = start(home, "first", Signature::new().value("x"), policy, Pages::Small)?;
        Ok(Self { engine, numbers: Numbers::default() })
    }

    /// Ends it, in order.
    ///
    /// # Errors
    /// When it does not end so.
    pub fn end(self) -> anyhow::Result<()> {
        end(&self.engine)
    }

    /// Reserves an array of so many bytes, writes its first element, and calls: how long that took.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn in_place(&mut self, bytes: usize) -> anyhow::Result<Duration> {
        let number = self.numbers.next();
        let begun = Instant::now();
        let mut place =
            self.engine.reserve(&[TensorSpec::input(DType::F32, &[bytes / ELEMENT])])?;
        place.write(0, 0, &[number])?;
        let answer = place.call(&Task::new().reserved(0), PATIENCE)?;
        let took = begun.elapsed();
        check(&answer, 0, number)?;
        Ok(took)
    }

    /// The same with an array that stands in the host's own memory.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn copied(&mut self, array: &Value, first: f32) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let answer = self.engine.call(&Task::new().value(array), PATIENCE)?;
        let took = begun.elapsed();
        check(&answer, 0, first)?;
        Ok(took)
    }
}

/// An array in the host's own memory, of so many bytes, that begins with `first`.
///
/// # Errors
/// Never for a size that fits.
pub fn array(bytes: usize, first: f32) -> anyhow::Result<Value> {
    let mut elements = vec![0.0_f32; bytes / ELEMENT];
    *elements.first_mut().context("an array of nothing")? = first;
    Ok(Tensor::new(&[elements.len()], &elements)?.into())
}

/// The worker's own copies of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Private {
    /// In memory as numpy takes it: in huge pages, where the kernel has any.
    AsNumpy,
    /// In pages of the usual size, as shared memory has them.
    SmallPages,
}

/// Sums an array: one in place, or a copy of it that is the worker's own.
pub struct Sum {
    engine: Engine,
    numbers: Numbers,
    elements: usize,
    /// Of the worker's own copies.
    first_sum: f32,
}

impl Sum {
    /// Starts the engine, for arrays of so many bytes.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(
        home: &Home,
        bytes: usize,
        policy: WaitPolicy,
        pages: Pages,
    ) -> anyhow::Result<Self> {
        let signature = Signature::new().value("x").int("copy");
        let engine = start(home, "sum", signature, policy, pages)?;
        let numbers = Numbers::default();
        let mut started = Self { engine, numbers, elements: bytes / ELEMENT, first_sum: 0.0 };
        started.in_place()?;
        Ok(started)
    }

    /// Ends it, in order.
    ///
    /// # Errors
    /// When it does not end so.
    pub fn end(self) -> anyhow::Result<()> {
        end(&self.engine)
    }

    /// Reserves the array, writes three elements far from each other (the others are zeros), and has
    /// it summed: how long that took.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn in_place(&mut self) -> anyhow::Result<Duration> {
        let number = self.numbers.next();
        let begun = Instant::now();
        let mut place = self.engine.reserve(&[TensorSpec::input(DType::F32, &[self.elements])])?;
        for index in [0, self.elements / 2, self.elements - 1] {
            place.write(0, index, &[number])?;
        }
        let answer = place.call(&Task::new().reserved(0).int(0), PATIENCE)?;
        let took = begun.elapsed();
        check(&answer, 0, 3.0 * number)?;
        if self.first_sum == 0.0 {
            self.first_sum = 3.0 * number;
        }
        Ok(took)
    }

    /// How long the sum alone takes in the worker's process, over a copy of its own.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn in_process(&self, copy: Private) -> anyhow::Result<Duration> {
        let task = Task::new().value(&Value::None).int(copy as i64);
        let answer = self.engine.call(&task, PATIENCE)?;
        check(&answer, 1, self.first_sum)?;
        seconds(&answer)
    }
}

/// Returns an array of [`Scaled::BYTES`] bytes.
pub struct Scaled {
    engine: Engine,
    numbers: Numbers,
    elements: usize,
    /// Filled again and again.
    reused: Answer,
}

/// What a call that returns an array took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// The whole call.
    pub all: Duration,
    /// The model's own computing.
    pub model: Duration,
}

/// How an array comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The model writes it into the array that it is offered, rather than into one of its own.
    pub in_place: bool,
    /// The host puts it into an [`Answer`] whose memory is used again, rather than into a new one.
    pub reused: bool,
}

impl Scaled {
    /// As in `tensor_model.py`.
    pub const BYTES: usize = 16 << 20;

    /// Starts the engine.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(home: &Home, policy: WaitPolicy, pages: Pages) -> anyhow::Result<Self> {
        let signature = Signature::new().float("factor").value("out");
        let engine = start(home, "scaled", signature, policy, pages)?;
        let elements = Self::BYTES / ELEMENT;
        Ok(Self { engine, numbers: Numbers::default(), elements, reused: Answer::new() })
    }

    /// Ends it, in order.
    ///
    /// # Errors
    /// When it does not end so.
    pub fn end(self) -> anyhow::Result<()> {
        end(&self.engine)
    }

    /// Has the array made and takes it. `thorough`: looks at every element of it afterwards, not at
    /// three of them.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn call(&mut self, way: Way, thorough: bool) -> anyhow::Result<Took> {
        let factor = self.numbers.next();
        let fresh;
        let task = Task::new().float(factor.into());
        let begun = Instant::now();
        let ticket = if way.in_place {
            let mut place =
                self.engine.reserve(&[TensorSpec::output(DType::F32, &[self.elements])])?;
            place.submit(&task.reserved(0))?
        } else {
            self.engine.submit(&task.value(&Value::None))?
        };
        let answer = if way.reused {
            self.engine.wait_into(ticket, PATIENCE, &mut self.reused)?;
            &self.reused
        } else {
            fresh = self.engine.wait(ticket, PATIENCE)?;
            &fresh
        };
        let all = begun.elapsed();
        let model = seconds(answer)?;
        self.check(answer, factor, thorough)?;
        Ok(Took { all, model })
    }

    fn check(&self, answer: &Answer, factor: f32, thorough: bool) -> anyhow::Result<()> {
        let Some(ValueRef::Tensor(array)) = answer.get(1) else {
            bail!("nearcall: no array: {}", kind(answer, 1));
        };
        let (elements, []) = array.bytes().as_chunks::<ELEMENT>() else {
            bail!("nearcall: {} bytes are no float32", array.bytes().len());
        };
        ensure!(
            array.dtype() == DType::F32 && elements.len() == self.elements,
            "nearcall: an array of {:?} {}",
            array.shape(),
            array.dtype()
        );
        let is_right = |index: usize| {
            let expected = (index % 251) as f32 * factor;
            elements.get(index).is_some_and(|bytes| f32::from_ne_bytes(*bytes) == expected)
        };
        let wrong = if thorough {
            (0..self.elements).find(|index| !is_right(*index))
        } else {
            [1, self.elements / 2, self.elements - 1].into_iter().find(|index| !is_right(*index))
        };
        match wrong {
            Some(index) => bail!("nearcall: element {index} is wrong, with factor {factor}"),
            None => Ok(()),
        }
    }
}

/// Copies of as many bytes within this process: what the machine needs for them.
pub struct Memcpy {
    numbers: Numbers,
    from: Vec<f32>,
    to: Vec<f32>,
}

impl Memcpy {
    /// Both sides of it have their pages.
    pub fn new(bytes: usize) -> Self {
        let side = || vec![1.0_f32; bytes / ELEMENT];
        Self { numbers: Numbers::default(), from: side(), to: side() }
    }

    fn change(&mut self) -> f32 {
        let number = self.numbers.next();
        if let Some(last) = self.from.last_mut() {
            *last = number;
        }
        black_box(&self.from);
        number
    }

    /// How long it takes into memory that was used before.
    ///
    /// # Errors
    /// A wrong copy.
    pub fn warm(&mut self) -> anyhow::Result<Duration> {
        let number = self.change();
        let begun = Instant::now();
        self.to.copy_from_slice(&self.from);
        let took = begun.elapsed();
        ensure!(black_box(&self.to).last() == Some(&number), "a wrong copy");
        Ok(took)
    }

    /// How long it takes into memory that the kernel has just given out.
    ///
    /// # Errors
    /// A wrong copy.
    pub fn fresh(&mut self) -> anyhow::Result<Duration> {
        /// More than glibc ever keeps for itself when it is freed: it comes from the kernel each time.
        const FROM_KERNEL: usize = 64 << 20;
        let number = self.change();
        let begun = Instant::now();
        let mut to = Vec::with_capacity(self.from.len().max(FROM_KERNEL / ELEMENT));
        to.extend_from_slice(&self.from);
        let took = begun.elapsed();
        ensure!(black_box(&to).last() == Some(&number), "a wrong copy");
        Ok(took)
    }
}

fn check(answer: &Answer, index: usize, expected: f32) -> anyhow::Result<()> {
    let found = answer.float(index)?;
    ensure!(
        found == f64::from(expected),
        "nearcall: a wrong answer: {found} instead of {expected}"
    );
    Ok(())
}

/// What a model says about its own computing: first in its answer.
fn seconds(answer: &Answer) -> anyhow::Result<Duration> {
    let seconds = answer.float(0)?;
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{seconds} seconds"))
}

fn kind(answer: &Answer, index: usize) -> &'static str {
    answer.get(index).map_or("nothing", |value| value.type_name())
}

#[cfg(test)]
mod tests {
    use nearcall::Args;

    use super::*;

    fn double(signature: Signature, model: fn(&[Value]) -> Value) -> Engine {
        let builder = Engine::builder("tensor_model:Model").signature(signature);
        builder.workers(1).start_with(move |args: &Args<'_>| Ok(model(args.values()))).unwrap()
    }

    fn elements(value: &Value) -> Vec<f32> {
        let Value::Tensor(array) = value else { return Vec::new() };
        array.to_vec().unwrap()
    }

    fn float(value: f32) -> Value {
        Value::Float(value.into())
    }

    #[test]
    fn the_first_element_is_the_one_of_this_call() {
        let right = double(Signature::new().value("x"), |args| float(elements(&args[0])[0]));
        let mut right = First { engine: right, numbers: Numbers::default() };
        for bytes in [64, 1 << 20, 1 << 10] {
            right.in_place(bytes).unwrap();
        }
        right.copied(&array(64, 7.0).unwrap(), 7.0).unwrap();
        // What the first call was given, again and again.
        let stale = double(Signature::new().value("x"), |_| float(1.0));
        let mut stale = First { engine: stale, numbers: Numbers::default() };
        stale.in_place(64).unwrap();
        let error = stale.in_place(64).unwrap_err().to_string();
        assert_eq!(error, "nearcall: a wrong answer: 1 instead of 2");
    }

    #[test]
    fn a_sum_of_a_part_is_wrong() {
        let start = |model| {
            let engine = double(Signature::new().value("x").int("copy"), model);
            Sum { engine, numbers: Numbers::default(), elements: 100, first_sum: 0.0 }
        };
        let mut all = start(|args| match elements(&args[0]) {
            // The copy that a worker keeps.
            empty if empty.is_empty() => Value::Tuple(vec![Value::Float(0.25), float(3.0)]),
            all => float(all.iter().sum()),
        });
        all.in_place().unwrap();
        all.in_place().unwrap();
        assert_eq!(all.in_process(Private::AsNumpy).unwrap(), Duration::from_millis(250));
        let parts: [fn(&[Value]) -> Value; 2] = [
            |args| float(elements(&args[0])[..99].iter().sum()),
            |args| float(elements(&args[0])[1..].iter().sum()),
        ];
        for part in parts {
            assert!(start(part).in_place().unwrap_err().to_string().contains("2 instead of 3"));
        }
    }

    const LENGTH: usize = 1_000;

    /// As the model does it, but for the element at `wrong`.
    fn scaled(args: &[Value], wrong: Option<usize>) -> Value {
        let Some(Value::Float(factor)) = args.first() else { return Value::None };
        let made = |index: usize| (index % 251) as f32 * *factor as f32;
        let mut elements: Vec<f32> = (0..LENGTH).map(made).collect();
        if let Some(wrong) = wrong {
            elements[wrong] += 1.0;
        }
        let array = Tensor::new(&[elements.len()], &elements).unwrap();
        Value::Tuple(vec![Value::Float(0.5), array.into()])
    }

    #[test]
    fn an_array_that_comes_back_is_looked_at() {
        let start = |model| {
            let engine = double(Signature::new().float("factor").value("out"), model);
            let (numbers, reused) = (Numbers::default(), Answer::new());
            Scaled { engine, numbers, elements: LENGTH, reused }
        };
        let mut right = start(|args| scaled(args, None));
        for (in_place, reused) in [(true, true), (true, false), (false, true), (false, false)] {
            let took = right.call(Way { in_place, reused }, true).unwrap();
            assert_eq!(took.model, Duration::from_millis(500));
        }
        let way = Way { in_place: true, reused: true };
        let mut wrong = start(|args| scaled(args, Some(LENGTH - 1)));
        let error = wrong.call(way, false).unwrap_err().to_string();
        assert_eq!(error, "nearcall: element 999 is wrong, with factor 1");
        let mut wrong = start(|args| scaled(args, Some(777)));
        assert!(wrong.call(way, true).unwrap_err().to_string().contains("element 777"));
        let mut none = start(|_| Value::Tuple(vec![Value::Float(0.5), Value::Int(3)]));
        assert!(none.call(way, false).unwrap_err().to_string().contains("no array: int"));
    }

    #[test]
    fn copies_are_copies() {
        let mut memcpy = Memcpy::new(1 << 10);
        for _ in 0..3 {
            memcpy.fresh().unwrap();
            memcpy.warm().unwrap();
        }
        assert_eq!(memcpy.from, memcpy.to);
    }
}
