//! Models of the ring: every interleaving of a few threads, by loom, and many random ones of more
//! threads, by shuttle. `scripts/loom` runs them; `docs/architecture.md`, "Models", says what they
//! cover.
//!
//! Each model has its controls: the same model with one ordering, or one check, taken away has to
//! fail ([`Flaw`]).

#[cfg(shuttle)]
mod at_random;
mod deaths;
mod giving_up;
mod parking;
mod transport;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::modelled::{self, Flaw};

/// Runs a model in each of its interleavings.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_within(2, model);
}

/// Runs a model in each interleaving in which threads lose their CPU to another, without being
/// blocked, so many times: more finds more, and takes long. `LOOM_MAX_PREEMPTIONS` says otherwise.
#[cfg(not(shuttle))]
fn explore_within(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        modelled::begin();
        model();
    });
    println!("{} interleavings", runs.load(Ordering::Relaxed));
}

/// Runs a model in interleavings that are drawn at random.
#[cfg(shuttle)]
fn explore_within(_: usize, model: impl Fn() + Send + Sync + 'static) {
    let times = std::env::var("MODEL_RUNS").ok().and_then(|runs| runs.parse().ok());
    shuttle::check_random(
        move || {
            modelled::begin();
            model();
        },
        times.unwrap_or(10_000),
    );
}

/// The model fails with these flaws.
fn fails_with(flaws: &[Flaw], model: impl FnOnce()) {
    let mut failure = None;
    let was_met = modelled::with_flaws(flaws, || {
        failure = catch_unwind(AssertUnwindSafe(model)).err();
    });
    assert!(was_met, "nobody comes by {flaws:?}");
    let failure = failure.unwrap_or_else(|| panic!("nobody notices {flaws:?}"));
    let text = failure.downcast_ref::<String>().map_or("", |text| text);
    let text = failure.downcast_ref::<&str>().copied().unwrap_or(text);
    assert!(!text.contains("maximum number of branches"), "{flaws:?}: {text}");
    println!("{flaws:?}: {}", text.lines().next().unwrap_or("?"));
}
