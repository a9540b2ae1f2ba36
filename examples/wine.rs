//! Columns in, a table out: polars groups wines by cultivar, and the figures are checked.
//!
//! `cargo run --example wine -- wine_data.csv`, in an environment with polars and numpy, once there is a
//! worker for it. The file comes with scikit-learn, in `sklearn/datasets/data`: 178 wines from three
//! cultivars, a line each, alcohol (% by volume) first and the cultivar's number last.

use nearcall::{Engine, Signature, Tensor};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the model takes: its fields are the keyword arguments, and arrive as numpy arrays.
#[derive(Serialize)]
struct Wines {
    cultivar: Tensor,
    alcohol: Tensor,
}

/// What the model returns: a dict of columns, with a row for each cultivar.
#[derive(Deserialize)]
struct Table {
    cultivar: Vec<i64>,
    wines: Vec<usize>,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Wines with more alcohol than the mean of their cultivar.
    strong: Vec<usize>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("which file? scikit-learn has a wine_data.csv")?;
    let (mut cultivar, mut alcohol) = (Vec::<i64>::new(), Vec::<f64>::new());
    for line in std::fs::read_to_string(path)?.lines().skip(1) {
        let (first, rest) = line.split_once(',').ok_or("a line has one column only")?;
        alcohol.push(first.parse()?);
        cultivar.push(rest.rsplit(',').next().unwrap_or(rest).parse()?);
    }

    let engine = Engine::builder("wine:Summary")
        .python_path("python/models")
        .signature(Signature::new().value("cultivar").value("alcohol"))
        .workers(2)
        .start()?;
    let wines = Wines {
        cultivar: Tensor::new(&[cultivar.len()], &cultivar)?,
        alcohol: Tensor::new(&[alcohol.len()], &alcohol)?,
    };
    let table: Table = engine.call_as(&wines, Duration::from_secs(10))?;

    for (row, &number) in table.cultivar.iter().enumerate() {
        let (wines, strong) = (table.wines[row], table.strong[row]);
        let (mean, deviation) = (table.mean[row], table.deviation[row]);
        println!("cultivar {number}: {wines} wines, {mean:.3} ± {deviation:.3} %, {strong} above");

        let pairs = cultivar.iter().zip(&alcohol);
        let own: Vec<f64> =
            pairs.filter(|(own, _)| **own == number).map(|(_, alcohol)| *alcohol).collect();
        let own_mean = own.iter().sum::<f64>() / own.len() as f64;
        let squares: f64 = own.iter().map(|alcohol| (alcohol - own_mean).powi(2)).sum();
        let own_deviation = (squares / (own.len() - 1) as f64).sqrt();
        let own_strong = own.iter().filter(|alcohol| **alcohol > own_mean).count();
        let is_near = |one: f64, other: f64| (one - other).abs() < 1e-12 * other;
        if (wines, strong) != (own.len(), own_strong)
            || !is_near(mean, own_mean)
            || !is_near(deviation, own_deviation)
        {
            return Err(
                format!("Rust finds {own_mean} ± {own_deviation}, {own_strong} above").into()
            );
        }
    }
    if table.wines.iter().sum::<usize>() != alcohol.len() {
        return Err("some wines are in no row".into());
    }
    Ok(())
}
