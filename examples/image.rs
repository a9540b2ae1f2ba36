//! An image in, an image out: numpy stretches its contrast.
//!
//! `cargo run --example image`, in an environment with numpy, once there is a worker for it.

use nearcall::{Engine, Signature, Task, Tensor, Value, ValueRef};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder("contrast:stretch")
        .python_path("python/models")
        .signature(Signature::new().value("image"))
        .workers(2)
        .start()?;

    // Grey, from 100 at the top left to 150 at the bottom right; 4 MB, far more than a slot has.
    let (height, width) = (2000, 2000);
    let grey = |at: usize| 100 + (50 * (at / width + at % width) / (height + width - 2)) as u8;
    let pixels: Vec<u8> = (0..height * width).map(grey).collect();
    let image = Value::from(Tensor::new(&[height, width], &pixels)?);

    let answer = engine.call(&Task::new().value(&image), Duration::from_secs(10))?;
    let ValueRef::Tensor(stretched) = answer.value() else {
        return Err(format!("the model returned {:?}", answer.value()).into());
    };
    let pixels = stretched.to_vec::<u8>()?;
    let (darkest, brightest) = (pixels.iter().min(), pixels.iter().max());
    println!("{:?} of {}, {darkest:?} to {brightest:?}", stretched.shape(), stretched.dtype());
    Ok(())
}
