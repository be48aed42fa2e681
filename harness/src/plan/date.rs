// SPDX-License-Identifier: MIT OR Apache-2.0
//! A day of the calendar.

use std::{fmt, str::FromStr};

/// Compares as days do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: i64,
    month: u8,
    day: u8,
}

impl Date {
    /// Of a time of the clock, in seconds since 1970 (UTC).
    #[must_use]
    pub fn of_unix(seconds: u64) -> Self {
        let mut rest = seconds / 86_400;
        let mut year = 1970;
        while rest >= if is_leap(year) { 366 } else { 365 } {
            rest -= if is_leap(year) { 366 } else { 365 };
            year += 1;
        }
        let mut month = 1;
        while rest >= u64::from(days(year, month)) {
            rest -= u64::from(days(year, month));
            month += 1;
        }
        Self { year, month, day: rest as u8 + 1 }
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days(year: i64, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no date (hint: 2027-01-31)");
        let digits =
            |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
            return Err(wrong());
        }
        let (Ok(year), Ok(month), Ok(day)) = (year.parse(), month.parse(), day.parse()) else {
            return Err(wrong());
        };
        let is_day = (1..=12).contains(&month) && day >= 1 && day <= days(year, month);
        if is_day { Ok(Self { year, month, day }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_798_675_200, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Date::of_unix(seconds).to_string(), date);
            assert_eq!(date.parse(), Ok(Date::of_unix(seconds)));
        }
    }

    #[test]
    fn what_is_no_day_is_refused_and_days_compare() {
        for wrong in
            ["2026-13-01", "2026-02-29", "2026-1-1", "26-01-01", "2026-01-00", "soon", "2026-01-01T00:00"]
        {
            assert!(wrong.parse::<Date>().is_err(), "{wrong}");
        }
        let date = |text: &str| text.parse::<Date>().unwrap();
        assert!(date("2026-12-31") < date("2027-01-01") && date("2026-09-30") < date("2026-10-01"));
    }
}
