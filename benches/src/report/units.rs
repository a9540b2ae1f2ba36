//! Figures as people read them: the unit is chosen for each value.

const TIMES: [(f64, &str); 4] = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
const RATES: [(f64, &str); 3] = [(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")];
const SPEEDS: [(f64, &str); 4] = [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")];
const SIZES: [(usize, &str); 2] = [(1 << 20, "MiB"), (1 << 10, "KiB")];

/// A time: `183 ns`, `1.12 µs`.
pub(crate) fn time(ns: f64) -> String {
    scaled(ns, &TIMES)
}

/// Calls per second: `714 k/s`.
pub(crate) fn rate(per_second: f64) -> String {
    scaled(per_second, &RATES)
}

/// Bytes per second: `5.21 GB/s`.
pub(crate) fn speed(bytes_per_second: f64) -> String {
    scaled(bytes_per_second, &SPEEDS)
}

/// Seconds of CPU: `1.30 s`.
pub(crate) fn cpu_seconds(seconds: f64) -> String {
    if seconds == 0.0 { "0 s".to_owned() } else { format!("{} s", three_digits(seconds)) }
}

/// `0.02 %`.
pub(crate) fn percent(value: f64) -> String {
    let small = value != 0.0 && value.abs() < 0.1;
    if small { format!("{value:.3} %") } else { format!("{} %", round(value)) }
}

/// How many times as much: `1.83`, `111`.
pub(crate) fn ratio(value: f64) -> String {
    three_digits(value)
}

/// A size that is a whole number of a larger unit is told in it; all others exactly, in bytes.
pub(crate) fn bytes(bytes: usize) -> String {
    let unit = SIZES.iter().find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes} B"), |(size, name)| format!("{} {name}", bytes / size))
}

/// `65,535`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds, exactly: `10 ms`, `1 s`.
pub(crate) fn period(ms: f64) -> String {
    if ms >= 1e3 { format!("{} s", ms / 1e3) } else { format!("{ms} ms") }
}

/// A round value beside an axis: as the others, without zeros at its end.
pub(crate) fn on_axis(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text.to_owned(),
    }
}

/// `2026-11-26 05:37 UTC`.
pub(crate) fn utc(unix_time: u64) -> String {
    let (mut days, second) = (unix_time / 86_400, unix_time % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // A file may hold any number: no year but a plausible one is worth looking for.
    let mut year = 1970;
    while year < 9999 && days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, second / 3600, second / 60 % 60)
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    // 999.6 ns would read 1000 ns.
    let fits = |size: f64| value.abs() >= 0.9995 * size;
    let Some((size, name)) = units.iter().find(|(size, _)| fits(*size)).or(units.last()) else {
        return three_digits(value);
    };
    let number = if *size == 1.0 { round(value) } else { three_digits(value / size) };
    format!("{number} {name}")
}

/// Without a fraction where there is none.
fn round(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { three_digits(value) }
}

fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else if magnitude >= 0.1 || magnitude == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_gets_the_unit_that_fits() {
        let times = [0.0, 9.0, 183.0, 999.9, 1_120.0, 45_300.0, 2_400_000.0, 1e9, -12.0];
        let texts = times.map(time);
        let expected = [
            "0 ns", "9 ns", "183 ns", "1.00 µs", "1.12 µs", "45.3 µs", "2.40 ms", "1.00 s",
            "-12 ns",
        ];
        assert_eq!(texts, expected);
        assert_eq!([395.0, 714_000.0, 3.1e6].map(rate), ["395 /s", "714 k/s", "3.10 M/s"]);
        assert_eq!([512.0, 5.21e9].map(speed), ["512 B/s", "5.21 GB/s"]);
        assert_eq!([0.0, 0.02, 12.34].map(percent), ["0 %", "0.020 %", "12.3 %"]);
    }

    #[test]
    fn sizes_counts_and_periods_are_exact() {
        assert_eq!(
            [64, 1024, 1000, 3 << 20, 0].map(bytes),
            ["64 B", "1 KiB", "1000 B", "3 MiB", "0 B"]
        );
        assert_eq!([7, 1_000, 65_535, 1_234_567].map(count), ["7", "1,000", "65,535", "1,234,567"]);
        assert_eq!([10.0, 1000.0, 2.5].map(period), ["10 ms", "1 s", "2.5 ms"]);
    }

    #[test]
    fn zeros_are_dropped_beside_an_axis() {
        let texts = ["1.00 µs", "50.0 µs", "200 ns", "2.50 M/s"].map(on_axis);
        assert_eq!(texts, ["1 µs", "50 µs", "200 ns", "2.5 M/s"]);
    }

    #[test]
    fn the_calendar_is_right_around_leap_days() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_671_420), "2026-11-26 05:37 UTC");
        assert!(utc(u64::MAX).starts_with("9999-"));
    }
}
