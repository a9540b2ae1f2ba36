//! The demo's tasks, and what the model must answer.

use nearcall::Task;
use serde::Serialize;

/// Where the numbers start. Every run has the same tasks.
const SEED: u64 = 3333;

/// Pieces of text. Upper case changes the number of characters of some: Python and Rust follow
/// the same Unicode rules for it.
const WORDS: [&str; 12] =
    ["ada", "turing", "hopper", "straße", "ﬁnale", "élan", "Ωμέγα", "ŉ", "日本", "🦀", " ", ""];

/// The keyword arguments of one call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DemoTask {
    float_features: Vec<f64>,
    str_features: Vec<String>,
    int_feature: i64,
}

impl DemoTask {
    /// The task as the engine takes it.
    pub(crate) fn to_task(&self) -> Task<'_> {
        Task::new().floats(&self.float_features).strings(&self.str_features).int(self.int_feature)
    }

    /// The value that the model must return, computed without Python.
    pub(crate) fn expected(&self) -> i64 {
        let floats: f64 = self.float_features.iter().map(|value| value.abs()).sum();
        let chars: usize =
            self.str_features.iter().map(|text| text.to_uppercase().chars().count()).sum();
        // Truncated as Python's int() does it; a negative length makes an empty list.
        floats as i64 + chars as i64 + self.int_feature.max(0)
    }
}

/// `count` tasks, the same on every machine for ever.
pub(crate) fn generate(count: usize) -> Vec<DemoTask> {
    let mut random = SplitMix64(SEED);
    (0..count).map(|_| task(&mut random)).collect()
}

fn task(random: &mut SplitMix64) -> DemoTask {
    let floats = random.below(7);
    let strs = random.below(5);
    DemoTask {
        // Multiples of 1/1024: their sums are exact, in whatever order and way they are added.
        // (From 3.12 on, Python's sum() compensates rounding errors, and a plain loop does not.)
        float_features: (0..floats)
            .map(|_| (random.below(2_000_000) as f64 - 1_000_000.0) / 1024.0)
            .collect(),
        str_features: (0..strs)
            .map(|_| {
                (0..random.below(6))
                    .map(|_| WORDS[random.below(WORDS.len() as u64) as usize])
                    .collect()
            })
            .collect(),
        int_feature: random.below(1000) as i64 - 10,
    }
}

/// A generator of our own, so that no crate's next version changes the tasks.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, with a bias that is far too small to matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tasks_are_always_the_same() {
        assert_eq!(SplitMix64(0).next(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(generate(50)[..20], generate(20)[..]);
    }

    #[test]
    fn the_tasks_vary() {
        let tasks = generate(1000);
        assert!(tasks.iter().any(|task| task.float_features.is_empty()));
        assert!(tasks.iter().any(|task| task.str_features.iter().any(String::is_empty)));
        assert!(tasks.iter().any(|task| task.int_feature < 0));
        assert!(tasks.iter().any(|task| !task.str_features.concat().is_ascii()));
    }

    #[test]
    fn lengths_are_counted_in_characters_after_upper() {
        let task = |text: &str, int_feature| DemoTask {
            float_features: vec![-1.5, 2.25],
            str_features: vec![text.to_owned()],
            int_feature,
        };
        assert_eq!(task("straße", 10).expected(), 3 + 7 + 10);
        assert_eq!(task("ﬁnale", 0).expected(), 3 + 6);
        assert_eq!(task("ŉ", -5).expected(), 3 + 2);
        assert_eq!(task("🦀", 1).expected(), 3 + 1 + 1);
    }
}
