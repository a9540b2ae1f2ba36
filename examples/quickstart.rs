//! Serves `python/models/big_model.py` from two worker processes and calls it once.

use nearcall::{Engine, Signature, Task};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let features = Signature::new().floats("float_features", 3).strs("str_features", 2);
    let engine = Engine::builder("big_model:Engine") // module:Class, or module:function
        .method("run_big_model")
        .python_path("python/models")
        .signature(features.int("int_feature"))
        .workers(2)
        .start()?; // a failed import comes back with Python's traceback

    let task = Task::new().floats(&[1.1, 11.2, 0.3]).strs(&["abc", "cdavfdv"]).int(27);
    let ticket = engine.submit(&task)?; // from any thread; `Full` means: try again later
    let answer = engine.wait(ticket, Duration::from_secs(1))?;
    println!("{} {:?}", answer.int(0)?, answer.str(1)?); // 49 ""
    Ok(())
}
