//! Calls with Rust types at both ends.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::Engine;
use super::wait::Deadline;
use crate::convert::Arguments;
use crate::error::CallAsError;

impl Engine {
    /// Calls the model with a struct, and takes its answer as another.
    ///
    /// Each field of `arguments` goes to the parameter of its name ([`Arguments`] says how); the whole
    /// answer is made an `R` ([`from_value`](crate::from_value) says how). Otherwise this is a
    /// [`call`](Engine::call), with a copy of the arguments on the way: where each microsecond
    /// counts, give a [`Task`](crate::Task).
    ///
    /// ```
    /// use nearcall::{Args, Engine, Signature, Value};
    /// use std::time::Duration;
    ///
    /// #[derive(serde::Serialize)]
    /// struct Features {
    ///     name: String,
    ///     scores: Vec<f64>,
    /// }
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Score {
    ///     label: String,
    ///     probability: f64,
    /// }
    ///
    /// let engine = Engine::builder("cats:Classifier")
    ///     .signature(Signature::new().floats("scores", ..).str("name"))
    ///     .start_with(|_: &Args<'_>| Ok(Value::Dict(vec![
    ///         ("label".to_owned(), "cat".into()),
    ///         ("probability".to_owned(), 0.75.into()),
    ///     ])))?;
    ///
    /// let features = Features { name: "Tom".to_owned(), scores: vec![0.5, 0.25] };
    /// let score: Score = engine.call_as(&features, Duration::from_secs(10))?;
    /// assert_eq!((score.label.as_str(), score.probability), ("cat", 0.75));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`CallAsError::Arguments`]: a field that does not fit, or that there is not; nothing was
    /// submitted. [`CallAsError::Call`]: as for [`call`](Engine::call). [`CallAsError::Answer`]: the
    /// answer is no `R`.
    pub fn call_as<A, R>(
        &self,
        arguments: &A,
        deadline: impl Into<Deadline>,
    ) -> Result<R, CallAsError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        // Counted from here: to take a large struct apart takes its time too.
        let deadline = deadline.into().instant().map_or(Deadline::NEVER, Deadline::from);
        let arguments = Arguments::of(self.signature(), arguments)?;
        let answer = self.call(&arguments.as_task(), deadline)?;
        Ok(answer.to()?)
    }
}
