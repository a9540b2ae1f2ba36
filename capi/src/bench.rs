//! The Rust half of the benchmark in `bench/call.cpp`: what its C++ half does, on the same engine, in the same
//! process, between its repeats.

use std::time::{Duration, Instant};

use engine::{Answer, Deadline, Task};

use crate::engine::Engine;

/// How long a call may take that is measured.
const LIMIT: Duration = Duration::from_secs(10);

/// Calls the model so often with the arguments of the seed's, or with a number alone, and gives the nanoseconds that all
/// calls took; 0 if one went wrong. The task and the answer are made once.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_bench_calls(
    engine: Option<&Engine>,
    with_arguments: bool,
    calls: u64,
    expected: i64,
) -> u64 {
    let Some(engine) = engine else { return 0 };
    let strs = ["abc", "cdavfdv"];
    let floats = [1.1, 11.2, 0.3];
    let mut answer = Answer::new();
    let start = Instant::now();
    for _ in 0..calls {
        let task = if with_arguments {
            Task::new().floats(&floats).strs(&strs).int(27)
        } else {
            Task::new().int(27)
        };
        if engine.engine.call_into(&task, Deadline::from(LIMIT), &mut answer).is_err()
            || answer.int(0) != Ok(expected)
        {
            return 0;
        }
    }
    u64::try_from(start.elapsed().as_nanos()).unwrap_or_default()
}
