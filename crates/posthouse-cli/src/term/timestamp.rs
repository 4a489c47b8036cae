//! Times as text: UTC, by ISO 8601.

use std::fmt;

/// A time in milliseconds since 1970, shown in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) i64);

/// The number of days from the first of March of year 0 to 1970.
const DAYS_TO_1970: i64 = 719_468;
/// The number of days in 400 years, after which the calendar repeats.
const DAYS_OF_ERA: i64 = 146_097;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1000);
        let (year, month, day) = date(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        let hours = second / 3600;
        let minutes = second / 60 % 60;
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}Z", second % 60)
    }
}

/// Returns the date of a day since 1970. Years begin in March here, so that a leap day is the last
/// day of a year (<https://howardhinnant.github.io/date_algorithms.html>, `civil_from_days`).
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + DAYS_TO_1970;
    let era = day.div_euclid(DAYS_OF_ERA);
    let day = day.rem_euclid(DAYS_OF_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_follow_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(seconds * 1000).to_string(), text);
            assert_eq!(Timestamp(seconds * 1000 + 999).to_string(), text, "fractions are cut");
        }
    }
}
