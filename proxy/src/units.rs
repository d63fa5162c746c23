//! Quantities as people write them: `250ms`, `64KiB`. The leaf types refuse, so that the reader of
//! a bad file is shown line and column.

use std::time::Duration;

/// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Period(pub Duration);

/// A number of bytes: a whole number, alone or with `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub usize);

/// A quantity that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct BadQuantity {
    expected: &'static str,
}

impl TryFrom<String> for Period {
    type Error = BadQuantity;

    fn try_from(text: String) -> Result<Self, BadQuantity> {
        let bad = BadQuantity {
            expected: "a duration such as `250ms`, `30s`, `15m`, `8h` or `1d`",
        };
        let (count, unit) = split(&text).ok_or(bad)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad),
        };
        count
            .checked_mul(millis)
            .filter(|millis| *millis > 0)
            .map(Duration::from_millis)
            .map(Self)
            .ok_or(bad)
    }
}

impl TryFrom<String> for Size {
    type Error = BadQuantity;

    fn try_from(text: String) -> Result<Self, BadQuantity> {
        let bad = BadQuantity {
            expected: "a size such as `64KiB` or `1MiB`",
        };
        let (count, unit) = split(&text).ok_or(bad)?;
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(bad),
        };
        count
            .checked_mul(factor)
            .filter(|bytes| *bytes > 0)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map(Self)
            .ok_or(bad)
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits)?;
    Some((count.parse().ok()?, unit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        let period = |text: &str| Period::try_from(text.to_owned()).map(|p| p.0.as_millis());
        assert_eq!(period("250ms").unwrap(), 250);
        assert_eq!(period("15m").unwrap(), 900_000);
        for bad in [
            "",
            "5",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "1 s",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(period(bad).is_err(), "{bad}");
        }
        let size = |text: &str| Size::try_from(text.to_owned()).map(|s| s.0);
        assert_eq!(size("64KiB").unwrap(), 65_536);
        for bad in ["", "KiB", "0", "1KB", "1 MiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
