//! Durations as the file writes them: a whole number and a unit, `ms`, `s`, `m` or `h`. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What [`parse`] accepts, in words.
pub(crate) const EXPECTED: &str = "a whole number and a unit (ms, s, m or h) in quotes";

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration of whole milliseconds. `None`: no number, no unit, a fraction, or too large for 64 bits.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_millis)
}

/// `duration` in the largest unit that gives a whole number; [`parse`] reads it back. Less than a millisecond is lost.
pub(crate) fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let unit = UNITS.into_iter().find(|(_, factor)| millis.is_multiple_of(u128::from(*factor)));
    let (name, factor) = unit.unwrap_or(("ms", 1));
    format!("{}{name}", millis / u128::from(factor))
}

/// `range` in words.
pub(crate) fn format_range(range: &RangeInclusive<Duration>) -> String {
    format!("{}..{}", format(*range.start()), format(*range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_is_read() {
        let read = |text| parse(text).map(|d| d.as_millis());
        assert_eq!(read("300ms"), Some(300));
        assert_eq!(read("2s"), Some(2_000));
        assert_eq!(read("3m"), Some(180_000));
        assert_eq!(read("1h"), Some(3_600_000));
        assert_eq!(read("0s"), Some(0));
    }

    #[test]
    fn what_is_no_whole_number_and_unit_is_refused() {
        for text in [
            "",
            "2",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            " 1s",
            "1 s",
            "1S",
            "1d",
            "1sec",
            "18446744073709551615h",
            "2sö",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_written_in_the_largest_unit_that_fits() {
        for text in ["0s", "1ms", "1500ms", "90s", "2m", "36h"] {
            assert_eq!(parse(text).map(format).as_deref(), Some(text));
        }
    }

    proptest! {
        #[test]
        fn written_durations_are_read_back(millis in 0u64..=1 << 40) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".*") {
            let _ = parse(&text);
        }
    }
}
