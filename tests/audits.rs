//! What the supervisor's audits must not take for a fault.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, leak_free};
use nearcall::{Signature, Task};

#[test]
fn a_ring_that_goes_round_fast_is_not_taken_for_one_that_was_overwritten() {
    leak_free(|bench| {
        let builder = bench.builder("echo").signature(Signature::new().int("x"));
        let engine = builder.workers(1).slots(1).start().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while Instant::now() < end {
                        match engine.call(&Task::new().int(1), PATIENCE) {
                            Ok(_) => {}
                            Err(nearcall::error::CallError::Submit(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}
