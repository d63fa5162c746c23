//! What a running sidecar finds out about itself when somebody asks.
//!
//! In: those who know something, each as a closure. Out: [`Finding`]s, which hold no secret.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How something stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// Calls are refused because of it.
    Fail,
}

impl Health {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at. It holds no secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing, such as `credential`.
    pub topic: String,
    /// Which one, such as a service.
    pub name: String,
    /// How it stands.
    pub state: Health,
    /// For people: what is known of it.
    pub detail: String,
}

impl Finding {
    /// Says how something stands.
    pub fn new(
        topic: &str,
        name: impl Into<String>,
        state: Health,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            name: name.into(),
            state,
            detail: detail.into(),
        }
    }
}

/// Finds out how things stand at that moment; returns at once.
pub type Examine = Box<dyn Fn(Timestamp) -> Vec<Finding> + Send + Sync>;

/// Everybody who knows something.
#[derive(Default)]
pub struct Doctor(Vec<Examine>);

impl Doctor {
    /// Asks one more.
    #[must_use]
    pub fn with(
        mut self,
        examine: impl Fn(Timestamp) -> Vec<Finding> + Send + Sync + 'static,
    ) -> Self {
        self.0.push(Box::new(examine));
        self
    }

    /// What everybody finds, in the order in which they were named.
    pub fn examine(&self, now: Timestamp) -> Vec<Finding> {
        self.0.iter().flat_map(|examine| examine(now)).collect()
    }
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Doctor").field(&self.0.len()).finish()
    }
}

/// A length of time as people say it: its two largest units.
pub fn lasting(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_said_in_its_two_largest_units() {
        for (seconds, said) in [
            (-3, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(lasting(seconds), said);
        }
    }

    #[test]
    fn everybody_is_asked_in_order() {
        let say = |name: &'static str| move |_| vec![Finding::new("t", name, Health::Ok, "")];
        let doctor = Doctor::default().with(say("a")).with(say("b"));
        let found = doctor.examine(Timestamp::UNIX_EPOCH);
        let names: Vec<_> = found.iter().map(|finding| finding.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
