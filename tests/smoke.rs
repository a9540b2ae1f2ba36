use nearcall::*;
use std::time::{Duration, Instant};
#[test]
fn smoke() {
    let engine = Engine::builder("test:echo").worker(env!("CARGO_BIN_EXE_nearcall-test-worker")).workers(1)
        .signature(Signature::new().floats("a", 3).strs("b", 2).int("c")).start().unwrap();
    println!("{engine:?} {:?} {:?}", engine.worker_pids(), engine.start_report());
    let task = Task::new().floats(&[1.1, 11.2, 0.3]).strs(&["abc", "cdavfdv"]).int(27);
    let a = engine.call(&task, Duration::from_secs(5)).unwrap();
    println!("{:?}", a.value());
    for _ in 0..3 {
    let n = 200000;
    let t = Instant::now();
    for _ in 0..n { engine.call(&task, Duration::from_secs(5)).unwrap(); }
    println!("{:?} per call", t.elapsed() / n);
    }
    let t = Instant::now();
    println!("{:?} {:?}", engine.shutdown(Duration::from_secs(1)), t.elapsed());
}
