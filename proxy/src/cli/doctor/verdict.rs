//! From what was seen of a runtime's calls to what is said of it.

use serde::Serialize;

use super::runtime::Runtime;

/// What was seen of one call.
#[expect(clippy::struct_excessive_bools, reason = "each was seen or was not")]
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Seen {
    /// It connected to the proxy.
    pub(super) came: bool,
    /// The decision log has it as permitted.
    pub(super) decided: bool,
    /// The runtime told what only our answer says.
    pub(super) answered: bool,
    /// It reached the server without the proxy.
    pub(super) direct: bool,
    /// How the runtime ended.
    pub(super) ended: Ended,
}

/// How a runtime ended, and what it said last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// By itself.
    Itself { well: bool, said: String },
    /// It did not, and was killed.
    Killed,
}

impl Default for Ended {
    fn default() -> Self {
        Self::Itself {
            well: true,
            said: String::new(),
        }
    }
}

/// Whether a runtime's traffic is caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It was decided, and the answer came back.
    Caught,
    /// It did not come to the proxy.
    NotCaught,
    /// It came, and does not trust the authority behind interception.
    RefusesCertificate,
    /// It came, and its call did not succeed.
    Failed,
    /// It is not here.
    NotFound,
    /// It is here, and nothing is known.
    NotTested,
}

impl Verdict {
    /// The words for people.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::NotCaught => "not caught",
            Self::RefusesCertificate => "refuses the certificate",
            Self::Failed => "failed",
            Self::NotFound => "not found",
            Self::NotTested => "not tested",
        }
    }
}

/// Where a call to a loopback address went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Loopback {
    /// To the proxy.
    Caught,
    /// To the server, without a decision.
    Round,
    /// Nowhere.
    Unknown,
}

/// What is said of a runtime.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Report {
    /// Its name.
    pub(super) runtime: &'static str,
    /// Where it is.
    pub(super) program: Option<String>,
    /// Its version.
    pub(super) version: Option<String>,
    /// What it comes to.
    pub(super) verdict: Verdict,
    /// Of calls to loopback addresses; absent where none was made.
    pub(super) loopback: Option<Loopback>,
    /// Why.
    pub(super) why: Option<String>,
    /// What to do.
    pub(super) advice: Option<String>,
}

impl Report {
    /// Of a runtime that made no call.
    pub(super) fn without_a_call(runtime: Runtime, verdict: Verdict, why: Option<String>) -> Self {
        Self {
            runtime: runtime.name(),
            program: None,
            version: None,
            verdict,
            loopback: None,
            why,
            advice: None,
        }
    }

    /// Of a runtime that called a service, and a loopback address.
    pub(super) fn of(runtime: Runtime, called: &Seen, loopback: &Seen) -> Self {
        let (verdict, why) = judge(called);
        let loopback = went(loopback);
        Self {
            loopback: Some(loopback),
            advice: advice(runtime, verdict, loopback),
            ..Self::without_a_call(runtime, verdict, why)
        }
    }
}

/// What a call comes to. Only a decision in the log together with the answer is `caught`.
fn judge(seen: &Seen) -> (Verdict, Option<String>) {
    let said = match &seen.ended {
        Ended::Itself { said, .. } if said.is_empty() => "it said nothing".to_owned(),
        Ended::Itself { said, .. } => format!("it said `{said}`"),
        Ended::Killed => "it did not end in time".to_owned(),
    };
    match (seen.came, seen.decided, seen.answered) {
        (true, true, true) => (Verdict::Caught, None),
        (false, ..) => {
            let why = match &seen.ended {
                Ended::Itself { well: true, .. } => {
                    "it ignores HTTPS_PROXY and was answered from elsewhere".to_owned()
                }
                Ended::Itself { well: false, .. } | Ended::Killed => {
                    format!("it ignores HTTPS_PROXY: nothing came to the proxy, {said}")
                }
            };
            (Verdict::NotCaught, Some(why))
        }
        (true, false, _) if speaks_of_certificates(&said) => {
            let why = format!("it does not trust the sidecar's authority: {said}");
            (Verdict::RefusesCertificate, Some(why))
        }
        (true, false, _) => {
            let why = format!("it came to the proxy, and no call was decided: {said}");
            (Verdict::Failed, Some(why))
        }
        (true, true, false) => {
            let why = format!("its call was decided, and the answer did not arrive: {said}");
            (Verdict::Failed, Some(why))
        }
    }
}

/// Libraries of TLS have no common word for it.
fn speaks_of_certificates(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    let words = [
        "certificate",
        "x509",
        "self-signed",
        "self signed",
        "cert_",
        "unable_to_verify",
    ];
    words.iter().any(|word| said.contains(word))
}

fn went(seen: &Seen) -> Loopback {
    match (seen.direct, seen.came) {
        (true, _) => Loopback::Round,
        (false, true) => Loopback::Caught,
        (false, false) => Loopback::Unknown,
    }
}

fn advice(runtime: Runtime, verdict: Verdict, loopback: Loopback) -> Option<String> {
    const CLOSED: &str = "`exec --isolate` or a transparent listener leaves it no other way";
    match verdict {
        Verdict::NotCaught => Some(format!("{CLOSED}; {}", runtime.goes_round())),
        Verdict::RefusesCertificate => Some(format!("it reads {}", runtime.trusts())),
        Verdict::Caught if loopback == Loopback::Round => Some(format!(
            "its calls to loopback addresses go round: {CLOSED}"
        )),
        Verdict::Caught | Verdict::Failed | Verdict::NotFound | Verdict::NotTested => None,
    }
}

/// Whether all that was found is caught, and something was.
pub(super) fn sound(reports: &[Report]) -> bool {
    let found = |one: &&Report| one.verdict != Verdict::NotFound;
    let mut found = reports.iter().filter(found).peekable();
    found.peek().is_some() && found.all(|one| one.verdict == Verdict::Caught)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(said: &str) -> Ended {
        Ended::Itself {
            well: false,
            said: said.to_owned(),
        }
    }

    #[test]
    fn only_a_decision_and_its_answer_are_caught() {
        let whole = Seen {
            came: true,
            decided: true,
            answered: true,
            ..Seen::default()
        };
        assert_eq!(judge(&whole), (Verdict::Caught, None));
        let without = |take: fn(&mut Seen)| {
            let mut seen = whole.clone();
            take(&mut seen);
            judge(&seen).0
        };
        assert_eq!(without(|seen| seen.came = false), Verdict::NotCaught);
        assert_eq!(without(|seen| seen.decided = false), Verdict::Failed);
        assert_eq!(without(|seen| seen.answered = false), Verdict::Failed);
    }

    #[test]
    fn what_did_not_come_to_the_proxy_is_not_caught_whatever_it_says() {
        for (ended, why) in [
            (Ended::default(), "answered from elsewhere"),
            (
                failing("certificate verify failed"),
                "nothing came to the proxy",
            ),
            (Ended::Killed, "did not end in time"),
        ] {
            let seen = Seen {
                ended,
                ..Seen::default()
            };
            let (verdict, said) = judge(&seen);
            assert_eq!(verdict, Verdict::NotCaught);
            assert!(said.is_some_and(|said| said.contains(why)), "{why}");
        }
    }

    #[test]
    fn who_comes_and_speaks_of_certificates_refuses_ours() {
        for said in [
            "curl: (60) SSL certificate problem: unable to get local issuer certificate",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "npm error code SELF_SIGNED_CERT_IN_CHAIN",
            "Error: unable_to_verify_leaf_signature",
        ] {
            let seen = Seen {
                came: true,
                ended: failing(said),
                ..Seen::default()
            };
            assert_eq!(judge(&seen).0, Verdict::RefusesCertificate, "{said}");
        }
    }

    #[test]
    fn a_loopback_call_that_reached_the_server_went_round() {
        let seen = |direct, came| Seen {
            came,
            direct,
            ..Seen::default()
        };
        assert_eq!(went(&seen(true, true)), Loopback::Round);
        assert_eq!(went(&seen(true, false)), Loopback::Round);
        assert_eq!(went(&seen(false, true)), Loopback::Caught);
        assert_eq!(went(&seen(false, false)), Loopback::Unknown);
    }

    #[test]
    fn all_is_well_when_something_was_found_and_all_of_it_is_caught() {
        let of = |verdicts: &[Verdict]| {
            let one = |verdict: &Verdict| Report::without_a_call(Runtime::Curl, *verdict, None);
            sound(&verdicts.iter().map(one).collect::<Vec<_>>())
        };
        assert!(of(&[Verdict::Caught, Verdict::NotFound]));
        assert!(!of(&[Verdict::NotFound]));
        assert!(!of(&[]));
        for wrong in [
            Verdict::NotCaught,
            Verdict::RefusesCertificate,
            Verdict::Failed,
            Verdict::NotTested,
        ] {
            assert!(!of(&[Verdict::Caught, wrong]), "{wrong:?}");
        }
    }
}
