//! Named points at which a test can make a process of the engine stop or die. Compiled in by the
//! feature `faults` only; without it a point is nothing.
//!
//! `NEARCALL_FAULTS` lists faults, separated by commas: a point, what happens there, and to whom:
//!
//! - `claim.claimed=kill@1`: the first worker of every place
//! - `serve.idle=stop@0.2`: the second worker of place 0
//! - `server.forking=abort#5`: the fork server, when it comes to the point for the fifth time
//!
//! A fault happens once in a process. If `NEARCALL_FAULTS_TOLD` names a file, the process writes a
//! line into it just before: its pid, the point, and the time in nanoseconds since 1970.

#[cfg(not(feature = "faults"))]
mod points {
    /// A point that a test may name.
    #[inline(always)]
    pub(crate) fn point(_name: &str) {}

    /// Reads the faults of this worker.
    #[inline(always)]
    pub(crate) fn arm(_place: u16, _incarnation: u32) {}

    /// Reads the faults of this fork server.
    #[inline(always)]
    pub(crate) fn arm_server() {}
}

#[cfg(feature = "faults")]
mod points {
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};
    use std::time::{SystemTime, UNIX_EPOCH};

    use nix::sys::signal::{Signal, raise};
    use rustix::process::{Resource, Rlimit, setrlimit};

    static ARMED: Mutex<Vec<Armed>> = Mutex::new(Vec::new());

    struct Armed {
        point: String,
        action: Action,
        /// How often the point is passed unharmed.
        passes: u32,
    }

    #[derive(Clone, Copy)]
    enum Action {
        Die(Signal),
        Stop,
        Exit,
        /// Asks for more memory than there may be.
        Memory,
        /// Panics here.
        Panic,
        /// Another thread panics; this one goes on.
        Thread,
    }

    /// A point that a test may name.
    pub fn point(name: &str) {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = armed.iter().position(|armed| armed.point == name) else { return };
        if let Some(armed) = armed.get_mut(index).filter(|armed| armed.passes > 0) {
            armed.passes -= 1;
            return;
        }
        let Armed { action, .. } = armed.swap_remove(index);
        drop(armed);
        tell(name);
        action.happen();
    }

    impl Action {
        fn from_name(name: &str) -> Option<Self> {
            Some(match name {
                "kill" => Self::Die(Signal::SIGKILL),
                "segv" => Self::Die(Signal::SIGSEGV),
                "abort" => Self::Die(Signal::SIGABRT),
                "stop" => Self::Stop,
                "exit" => Self::Exit,
                "memory" => Self::Memory,
                "panic" => Self::Panic,
                "thread" => Self::Thread,
                _ => return None,
            })
        }

        #[allow(clippy::panic, reason = "it is what was asked for")]
        fn happen(self) {
            match self {
                Self::Die(signal) => loop {
                    // The standard library's handler of SIGSEGV lets the first one pass.
                    let _ = raise(signal);
                },
                Self::Stop => {
                    let _ = raise(Signal::SIGSTOP);
                }
                Self::Exit => crate::sys::process::exit_now(3),
                Self::Memory => {
                    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
                    let _ = setrlimit(Resource::Data, nothing);
                    // Larger than what the allocator may have left.
                    std::hint::black_box(Vec::<u8>::with_capacity(1 << 30));
                }
                Self::Panic => panic!("as asked"),
                Self::Thread => {
                    let _ = std::thread::spawn(|| panic!("as asked")).join();
                }
            }
        }
    }

    fn tell(point: &str) {
        let Ok(path) = std::env::var("NEARCALL_FAULTS_TOLD") else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{} {point} {}\n", std::process::id(), now.as_nanos());
        if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path) {
            // One write: many processes may do it at a time.
            let _ = file.write_all(line.as_bytes());
        }
    }

    /// Reads the faults of this worker.
    pub(crate) fn arm(place: u16, incarnation: u32) {
        arm_those(|fault| {
            let (action, wanted) = fault.split_once('@')?;
            let is_mine = match wanted.split_once('.') {
                Some((of, wanted)) => of.parse() == Ok(place) && wanted.parse() == Ok(incarnation),
                None => wanted.parse() == Ok(incarnation),
            };
            is_mine.then_some((action, 0))
        });
    }

    /// Reads the faults of this fork server.
    pub(crate) fn arm_server() {
        arm_those(|fault| {
            let (action, count) = fault.split_once('#')?;
            Some((action, count.parse::<u32>().ok()?.saturating_sub(1)))
        });
    }

    /// Arms the faults of which `mine` gives the action and how often it does not happen.
    fn arm_those(mine: impl Fn(&str) -> Option<(&str, u32)>) {
        let faults = std::env::var("NEARCALL_FAULTS").unwrap_or_default();
        let armed = faults.split(',').filter_map(|fault| {
            let (point, fault) = fault.trim().split_once('=')?;
            let (action, passes) = mine(fault)?;
            let action = Action::from_name(action)?;
            Some(Armed { point: point.to_owned(), action, passes })
        });
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = armed.collect();
    }
}

/// For the tests' worker, whose model has points too.
#[cfg(feature = "faults")]
pub use points::point as fault_point;
pub(crate) use points::{arm, arm_server, point};
