//! What both sides of the storm know: the host (`storm/`) orders, the model (beside this) does.
//!
//! A task has a number of its own, and its answer follows from it, so each answer can be checked.
//! How often a task has run, and that its end was told, both sides write into the *ledger*: a file
//! without a name, which the model finds by [`LEDGER`] and maps.

#![allow(dead_code, reason = "each side uses a part")]

/// The variable that names the ledger to the workers.
pub(crate) const LEDGER: &str = "NEARCALL_STORM_LEDGER";
/// The variable that says how often a task may run.
pub(crate) const RUNS_ALLOWED: &str = "NEARCALL_STORM_RUNS_ALLOWED";

/// Bits of a task's number that count the tasks of one submitter.
const SEQUENCE_BITS: u32 = 40;
/// Submitters, at most.
pub(crate) const LANES: u64 = 32;
/// Rows that a submitter has in the ledger. It has far fewer tasks at a time.
const LANE_ROWS: u64 = 1 << 14;
/// Bytes of a row: `runs`, `ended`.
const ROW_BYTES: u64 = 16;

/// The first bytes of the ledger: words that count, then the rows.
const HEADER_BYTES: u64 = 64;
/// Where the ledger counts tasks that were run more often than they may be.
pub(crate) const TOO_MANY_RUNS: u64 = 0;
/// Where it counts tasks that were run after their end was told.
pub(crate) const LATE_RUNS: u64 = 8;
/// Where it counts tensors that a model has kept, and that did not stay as they were.
pub(crate) const CHANGED: u64 = 16;
/// Size of the ledger.
pub(crate) const LEDGER_BYTES: u64 = HEADER_BYTES + LANES * LANE_ROWS * ROW_BYTES;

/// The number of a submitter's task. Never 0, if sequences begin at 1.
pub(crate) fn number(lane: u64, sequence: u64) -> u64 {
    lane << SEQUENCE_BITS | sequence
}

/// Where a task's row is: its number and how often it has run, in one word (see [`runs_word`]).
pub(crate) fn runs_offset(number: u64) -> u64 {
    let lane = (number >> SEQUENCE_BITS) % LANES;
    let row = lane * LANE_ROWS + number % LANE_ROWS;
    HEADER_BYTES + row * ROW_BYTES
}

/// Where the number of the row's last task is whose end was told.
pub(crate) fn ended_offset(number: u64) -> u64 {
    runs_offset(number) + 8
}

/// The word that says how often a task has run.
pub(crate) fn runs_word(number: u64, runs: u64) -> u64 {
    number << 8 | runs.min(0xFF)
}

/// Whose runs a word counts, and how many.
pub(crate) fn runs_of(word: u64) -> (u64, u64) {
    (word >> 8, word & 0xFF)
}

/// What a task can ask of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Answer at once.
    Answer,
    /// Sleep for so many microseconds, then answer.
    Sleep,
    /// Compute for so many microseconds, then answer.
    Compute,
    /// Raise.
    Raise,
    /// Return more than a slot can hold.
    Oversize,
    /// End by this signal.
    Die,
    /// End with this exit status.
    Exit,
    /// Stop; answer if somebody makes the worker go on.
    Stop,
    /// Write into the segment what follows from this number, then answer.
    Scribble,
    /// Answer, and keep the tensors in place for so many tasks.
    Keep,
    /// End by this signal in the middle of the work; answer when it is done once more.
    Stumble,
    /// Write anything into the memory for the answer's tensors, and answer with tensors that stand
    /// anywhere: what follows from this number.
    Lie,
}

impl Deed {
    const ALL: [Self; 12] = [
        Self::Answer,
        Self::Sleep,
        Self::Compute,
        Self::Raise,
        Self::Oversize,
        Self::Die,
        Self::Exit,
        Self::Stop,
        Self::Scribble,
        Self::Keep,
        Self::Stumble,
        Self::Lie,
    ];

    /// As it stands in a task.
    pub(crate) fn code(self) -> i64 {
        self as i64
    }

    /// The deed with this code.
    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.code() == code)
    }
}

/// The number in a task's answer.
pub(crate) fn answer(number: u64, padding: &[u8]) -> i64 {
    mix(number ^ digest(padding)).cast_signed()
}

/// A number that is another one for other bytes.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| mix(sum ^ u64::from(*byte)))
}

/// Spreads a number over all bits (the finaliser of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}
