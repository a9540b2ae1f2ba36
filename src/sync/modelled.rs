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

#[cfg(shuttle)]
pub(crate) use checker::hint::spin_loop;
#[cfg(not(shuttle))]
pub(crate) use checker::thread::yield_now as spin_loop;

/// What is broken in a model that has to fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flaw {
    /// The step on the line at which this text starts, in this file of `src/`, and how it is broken.
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
/// When a flaw's text is not there, or more than once: what it was about has changed.
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
    let places: Vec<_> = source.match_indices(text).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1, "{file} does not have {text:?} once");
    let before = places.first().and_then(|at| source.get(..*at)).unwrap_or_default();
    before.matches('\n').count() as u32 + 1
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

/// Makes loom try every order of the accesses to a word.
///
/// Loom (0.7) reorders two accesses only if one of them depends on the last one before it, and it
/// remembers but one: after "A loads; B loads; B swaps" it never tries B's swap before A's load. So
/// each access takes a turn first, by a step of which each depends on the one before. It is Relaxed
/// and on a word of its own: it orders nothing that the code does.
#[cfg(not(shuttle))]
#[derive(Debug)]
struct Turn(loom::sync::atomic::AtomicUsize);

#[cfg(not(shuttle))]
impl Turn {
    fn new() -> Self {
        Self(loom::sync::atomic::AtomicUsize::new(0))
    }

    #[track_caller]
    fn take(&self) {
        self.0.fetch_add(0, Ordering::Relaxed);
    }
}

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name {
            word: checker::sync::atomic::$name,
            #[cfg(not(shuttle))]
            turn: Turn,
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl $name {
            pub(crate) fn new(number: $number) -> Self {
                Self {
                    word: checker::sync::atomic::$name::new(number),
                    #[cfg(not(shuttle))]
                    turn: Turn::new(),
                }
            }

            /// The word, for one access.
            #[track_caller]
            fn word(&self) -> &checker::sync::atomic::$name {
                #[cfg(not(shuttle))]
                self.turn.take();
                &self.word
            }

            /// A look of the model's own: no step of the code's.
            pub(crate) fn peek(&self) -> $number {
                self.word().load(Ordering::Relaxed)
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $number {
                match step() {
                    Step::Void | Step::Broken(How::Skipped) => 0,
                    Step::Broken(How::Relaxed) => self.word().load(Ordering::Relaxed),
                    _ => self.word().load(order),
                }
            }

            #[track_caller]
            pub(crate) fn store(&self, number: $number, order: Ordering) {
                match step() {
                    Step::Void | Step::Broken(How::Skipped) => {}
                    Step::Broken(How::Relaxed) => self.word().store(number, Ordering::Relaxed),
                    _ => self.word().store(number, order),
                }
            }

            #[track_caller]
            pub(crate) fn swap(&self, number: $number, order: Ordering) -> $number {
                match step() {
                    Step::Void | Step::Broken(How::Skipped) => 0,
                    Step::Broken(How::Relaxed) => self.word().swap(number, Ordering::Relaxed),
                    _ => self.word().swap(number, order),
                }
            }

            #[track_caller]
            pub(crate) fn fetch_or(&self, bits: $number, order: Ordering) -> $number {
                match step() {
                    Step::Void | Step::Broken(How::Skipped) => 0,
                    Step::Broken(How::Relaxed) => self.word().fetch_or(bits, Ordering::Relaxed),
                    _ => self.word().fetch_or(bits, order),
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
                    Step::Broken(How::Forced) => Ok(self.word().swap(new, success)),
                    Step::Broken(How::Relaxed) => {
                        let relaxed = Ordering::Relaxed;
                        self.word().compare_exchange(current, new, relaxed, relaxed)
                    }
                    Step::Taken => self.word().compare_exchange(current, new, success, failure),
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
