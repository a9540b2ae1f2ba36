//! The atomics of the models: loom's, or shuttle's, and at each step two things more. A thread can
//! die before it ([`mortal`]), and the step can be broken on purpose ([`Flaw`]), to see whether
//! somebody notices. The code under the model knows nothing of either.
//!
//! Both checkers run all threads of a model on one thread of the system, so what is asked for here
//! stands in variables of that thread.

use std::cell::{Cell, RefCell};
use std::panic::Location;

#[cfg(not(shuttle))]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

pub(crate) use checker::sync::atomic::Ordering;
use checker::thread::ThreadId;

#[cfg(not(shuttle))]
pub(crate) use checker::thread::yield_now as spin_loop;
#[cfg(shuttle)]
pub(crate) use checker::hint::spin_loop;

/// What is broken in a model that has to fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flaw {
    /// The step in this file of `src/` whose line has this text, and how it is broken.
    Step(&'static str, &'static str, How),
    /// A step of the model's own that it leaves out ([`is_left_out`]).
    LeftOut(&'static str),
}

/// How a step is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Its ordering is Relaxed.
    Relaxed,
    /// It does not happen. (A load gives 0.)
    Skipped,
    /// A compare-and-swap that does not compare.
    Forced,
}

/// How far a thread of the model is from its death.
struct Mortal {
    thread: ThreadId,
    steps_left: usize,
}

struct BrokenStep {
    file: &'static str,
    line: u32,
    how: How,
}

thread_local! {
    static MORTALS: RefCell<Vec<Mortal>> = const { RefCell::new(Vec::new()) };
    static BROKEN: RefCell<Vec<BrokenStep>> = const { RefCell::new(Vec::new()) };
    static LEFT_OUT: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    static WAS_MET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `model` with these flaws. Whether one of them was met.
///
/// # Panics
/// When a flaw names no line, or several: what it was about has changed.
pub(crate) fn with_flaws(flaws: &[Flaw], model: impl FnOnce()) -> bool {
    WAS_MET.set(false);
    for flaw in flaws {
        match *flaw {
            Flaw::LeftOut(step) => LEFT_OUT.with_borrow_mut(|steps| steps.push(step)),
            Flaw::Step(file, text, how) => {
                let line = line_of(file, text);
                BROKEN.with_borrow_mut(|broken| broken.push(BrokenStep { file, line, how }));
            }
        }
    }
    model();
    LEFT_OUT.with_borrow_mut(Vec::clear);
    BROKEN.with_borrow_mut(Vec::clear);
    WAS_MET.get()
}

fn line_of(file: &str, text: &str) -> u32 {
    let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = (1..).zip(source.lines()).filter(|(_, line)| line.contains(text)).collect();
    assert_eq!(lines.len(), 1, "not one line of {file} has {text:?}: {lines:?}");
    lines.first().map_or(0, |(number, _)| *number)
}

/// Whether a model is to leave out this step of its own.
pub(crate) fn is_left_out(step: &str) -> bool {
    let left_out = LEFT_OUT.with_borrow(|steps| steps.contains(&step));
    WAS_MET.set(WAS_MET.get() || left_out);
    left_out
}

/// Everybody lives: at the start of each run of a model.
pub(crate) fn begin() {
    MORTALS.with_borrow_mut(Vec::clear);
}

/// This thread dies before its step of this number, counted from here.
///
/// A dead thread goes on as a ghost, whose steps do nothing and find zeros, until the model looks
/// whether it [`is_dead`]. (An unwinding would run through the checker's own switches.)
pub(crate) fn mortal(steps_left: usize) {
    let thread = checker::thread::current().id();
    MORTALS.with_borrow_mut(|mortals| mortals.push(Mortal { thread, steps_left }));
}

/// Whether this thread has died.
pub(crate) fn is_dead() -> bool {
    on_mortal(|mortal| mortal.steps_left == 0)
}

/// A step that is no atomic's: `false` when the thread is dead, and it must not happen.
pub(crate) fn lives_on() -> bool {
    !on_mortal(|mortal| {
        let is_dead = mortal.steps_left == 0;
        mortal.steps_left = mortal.steps_left.saturating_sub(1);
        is_dead
    })
}

fn on_mortal(ask: impl FnOnce(&mut Mortal) -> bool) -> bool {
    MORTALS.with_borrow_mut(|mortals| {
        if mortals.is_empty() {
            return false;
        }
        let thread = checker::thread::current().id();
        mortals.iter_mut().find(|mortal| mortal.thread == thread).is_some_and(ask)
    })
}

enum Step {
    Taken,
    /// By a ghost.
    Void,
    Broken(How),
}

#[track_caller]
fn step() -> Step {
    if !lives_on() {
        return Step::Void;
    }
    let at = Location::caller();
    BROKEN.with_borrow(|broken| {
        let here = |step: &&BrokenStep| step.line == at.line() && at.file().ends_with(step.file);
        let Some(step) = broken.iter().find(here) else { return Step::Taken };
        WAS_MET.set(true);
        Step::Broken(step.how)
    })
}

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name(checker::sync::atomic::$name);

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl $name {
            pub(crate) fn new(number: $number) -> Self {
                Self(checker::sync::atomic::$name::new(number))
            }

            /// A look of the model's own: no step of the code's.
            pub(crate) fn peek(&self) -> $number {
                self.0.load(Ordering::Relaxed)
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $number {
                match step() {
                    Step::Void | Step::Broken(How::Skipped) => 0,
                    Step::Broken(How::Relaxed) => self.0.load(Ordering::Relaxed),
                    _ => self.0.load(order),
                }
            }

            #[track_caller]
            pub(crate) fn store(&self, number: $number, order: Ordering) {
                match step() {
                    Step::Void | Step::Broken(How::Skipped) => {}
                    Step::Broken(How::Relaxed) => self.0.store(number, Ordering::Relaxed),
                    _ => self.0.store(number, order),
                }
            }

            #[track_caller]
            pub(crate) fn swap(&self, number: $number, order: Ordering) -> $number {
                match step() {
                    Step::Void | Step::Broken(How::Skipped) => 0,
                    Step::Broken(How::Relaxed) => self.0.swap(number, Ordering::Relaxed),
                    _ => self.0.swap(number, order),
                }
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                match step() {
                    Step::Void => Err(0),
                    Step::Broken(How::Skipped) => Ok(current),
                    Step::Broken(How::Forced) => Ok(self.0.swap(new, success)),
                    Step::Broken(How::Relaxed) => {
                        let relaxed = Ordering::Relaxed;
                        self.0.compare_exchange(current, new, relaxed, relaxed)
                    }
                    Step::Taken => self.0.compare_exchange(current, new, success, failure),
                }
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

/// A fence. Broken in whichever way, there is none.
#[track_caller]
pub(crate) fn fence(order: Ordering) {
    if matches!(step(), Step::Taken) {
        checker::sync::atomic::fence(order);
    }
}
