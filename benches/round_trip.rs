//! What the engine costs by itself: one call at a time through ring and slot, over the test double
//! (a Rust closure on a thread), with no Python and no second process.
//!
//! `cargo bench --bench round_trip`. Every answer is checked.

use std::time::{Duration, Instant};

use nearcall::{Args, Engine, Signature, Task, Value};

const WARM_UP: usize = 20_000;
const CALLS: usize = 200_000;
const REPEATS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder("bench:answer")
        .signature(Signature::new().floats("floats", 3).strs("strs", 2).int("int"))
        .workers(1)
        .start_with(|args: &Args<'_>| match args.get("int") {
            Some(Value::Int(int)) => Ok(Value::Int(int + 1)),
            _ => Ok(Value::None),
        })?;
    println!("{:>8} {:>8} {:>8} {:>8}  ns a call, {CALLS} calls", "p50", "p90", "p99", "p99.9");
    for _ in 0..REPEATS {
        let mut times = Vec::with_capacity(CALLS);
        for number in 0..WARM_UP + CALLS {
            let int = i64::try_from(number)?;
            let task = Task::new().floats(&[1.1, 11.2, 0.3]).strs(&["abc", "cdavfdv"]).int(int);
            let begun = Instant::now();
            let answer = engine.call(&task, Duration::from_secs(10))?;
            let time = begun.elapsed();
            if answer.int(0)? != int + 1 {
                return Err(format!("a wrong answer: {answer:?} for {int}").into());
            }
            if number >= WARM_UP {
                times.push(time.as_nanos());
            }
        }
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{:>8} {:>8} {:>8} {:>8}", at(0.5), at(0.9), at(0.99), at(0.999));
    }
    Ok(())
}
