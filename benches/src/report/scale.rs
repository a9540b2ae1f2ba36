//! The axes of a chart: from a value to a place, and where the ticks are.

use super::units;

/// Turns a tick's value into its text.
pub(crate) type Unit = fn(f64) -> String;

/// An axis. Places on it go from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) title: String,
    kind: Kind,
    low: f64,
    high: f64,
    /// The lines of the grid, some of them with a text.
    pub(crate) ticks: Vec<(f64, Option<String>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    Log,
}

/// The share of an axis that a text takes.
const TEXT: f64 = 0.09;

impl Axis {
    /// From zero, to hold all the values.
    pub(crate) fn linear(title: &str, values: &[f64], unit: Unit) -> Self {
        let (_, largest) = bounds(values);
        let decade = 10f64.powf((largest / 4.0).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * decade);
        let step = step.into_iter().find(|step| largest / step <= 5.0).unwrap_or(largest);
        let steps = (largest / step).ceil();
        let tick = |index: u32| (f64::from(index) * step, text(f64::from(index) * step, unit));
        let ticks = (0..=steps as u32).map(tick).collect();
        Self { title: title.to_owned(), kind: Kind::Linear, low: 0.0, high: steps * step, ticks }
    }

    /// Logarithmic, from one round value to another.
    pub(crate) fn log(title: &str, values: &[f64], unit: Unit) -> Self {
        let (smallest, largest) = bounds(values);
        let (low, high) = (round_down(smallest), round_up(largest));
        let high = if high > low { high } else { round_up(low * 1.5) };
        let decades = (high / low).log10();
        let mut ticks = Vec::new();
        let mut decade = 10f64.powf(low.log10().floor());
        while decade <= high * 1.001 {
            for factor in [1.0, 2.0, 5.0] {
                let value = factor * decade;
                if value < low * 0.999 || value > high * 1.001 {
                    continue;
                }
                if factor == 1.0 || decades < 2.5 {
                    ticks.push((value, text(value, unit)));
                } else if decades < 4.5 {
                    ticks.push((value, None));
                }
            }
            decade *= 10.0;
        }
        Self { title: title.to_owned(), kind: Kind::Log, low, high, ticks }
    }

    /// Logarithmic, with ticks at just these values; texts are left out where they would overlap.
    pub(crate) fn log_at(title: &str, values: &[f64], unit: Unit) -> Self {
        let (low, high) = bounds(values);
        let mut values = values.to_vec();
        values.retain(|value| (low..=high).contains(value));
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (low, high) = if high > low { (low, high) } else { (low / 2.0, high * 2.0) };
        let ticks = Vec::new();
        let mut axis = Self { title: title.to_owned(), kind: Kind::Log, low, high, ticks };
        let mut free = f64::INFINITY;
        for value in values.into_iter().rev() {
            let place = axis.place(value);
            let shown = place <= free;
            axis.ticks.push((value, if shown { text(value, unit) } else { None }));
            free = if shown { place - TEXT } else { free };
        }
        axis
    }

    /// Shares by their nines, up to 1 - 10^-`most`: its values are log10(1 / (1 - share)).
    pub(crate) fn nines(title: &str, most: f64) -> Self {
        let high = if most.is_finite() { most.max(1.0) } else { 1.0 };
        let mut ticks = vec![(0.0, Some("0".to_owned())), (2f64.log10(), Some("50".to_owned()))];
        let texts = ["90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999", "99.999999"];
        let texts = texts.iter().zip(1u32..).map(|(text, nines)| (f64::from(nines), text));
        // A text in the corner would be cut off by it.
        let texts = texts.filter(|(value, _)| *value <= high);
        ticks.extend(texts.map(|(value, text)| (value, Some((*text).to_owned()))));
        Self { title: title.to_owned(), kind: Kind::Linear, low: 0.0, high, ticks }
    }

    /// Where a value is, 0 to 1; what lies outside is put on the edge.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let place = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        // Nothing has a logarithm of its own.
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }
}

fn text(value: f64, unit: Unit) -> Option<String> {
    Some(units::on_axis(&unit(value)))
}

/// Of those that a measurement can bring: no axis needs to reach further.
fn bounds(values: &[f64]) -> (f64, f64) {
    let usable = values.iter().copied().filter(|v| *v > 1e-9 && *v < 1e18);
    let (low, high) = usable.fold((f64::MAX, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    if low <= high { (low, high) } else { (1.0, 10.0) }
}

fn round_down(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let factor = [5.0, 2.0].into_iter().find(|factor| factor * decade <= value * 1.001);
    factor.unwrap_or(1.0) * decade
}

fn round_up(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * decade >= value * 0.999);
    factor.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().filter_map(|(_, text)| text.as_deref()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::log("", &[183.0, 45_000.0], units::time);
        assert_eq!(texts(&axis), ["100 ns", "1 µs", "10 µs"]);
        let axis = Axis::log("", &[183.0, 1_800.0], units::time);
        assert_eq!(texts(&axis), ["100 ns", "200 ns", "500 ns", "1 µs", "2 µs"]);
        let axis = Axis::linear("", &[3.1e6], units::rate);
        assert_eq!(texts(&axis), ["0 /s", "1 M/s", "2 M/s", "3 M/s", "4 M/s"]);
        let axis = Axis::log_at("", &[1.0, 64.0, 4.0, 16.0, 4.0], |v| format!("{v}"));
        assert_eq!(texts(&axis), ["64", "16", "4", "1"]);
        assert_eq!(texts(&Axis::nines("", 3.2)), ["0", "50", "90", "99", "99.9"]);
    }

    #[test]
    fn every_axis_places_every_value() {
        let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0];
        for values in [&odd[..], &[5.0], &[0.0, 0.0], &[], &[1.0, 1e9]] {
            let axes = [
                Axis::linear("", values, units::rate),
                Axis::log("", values, units::time),
                Axis::log_at("", values, units::time),
                Axis::nines("", values.first().copied().unwrap_or(0.0)),
            ];
            for axis in axes {
                for value in odd.iter().chain(values) {
                    assert!((0.0..=1.0).contains(&axis.place(*value)), "{axis:?} {value}");
                }
                assert!(axis.ticks.len() < 40, "{axis:?}");
                assert!(axis.ticks.iter().all(|(value, _)| value.is_finite()), "{axis:?}");
            }
        }
    }
}
