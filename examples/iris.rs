//! A struct in, a struct out: a forest of scikit-learn's tells flowers apart.
//!
//! `cargo run --example iris`, in an environment with scikit-learn, once there is a worker for it.

use nearcall::{Engine, Signature};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the model takes: its fields are the keyword arguments.
#[derive(Serialize)]
struct Flower {
    sepal_length: f64,
    sepal_width: f64,
    petal_length: f64,
    petal_width: f64,
}

/// What the model returns, a dict.
#[derive(Deserialize)]
struct Guess {
    species: String,
    probability: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let signature = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
        .into_iter()
        .fold(Signature::new(), Signature::float);
    let engine = Engine::builder("iris:Iris")
        .python_path("python/models")
        .signature(signature)
        .workers(2)
        .start()?;
    for [sepal_length, sepal_width, petal_length, petal_width] in
        [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]]
    {
        let flower = Flower { sepal_length, sepal_width, petal_length, petal_width };
        let guess: Guess = engine.call_as(&flower, Duration::from_secs(10))?;
        println!("{} {:.2}", guess.species, guess.probability);
    }
    Ok(())
}
