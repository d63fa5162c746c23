//! Reviews of admission (`admission.k8s.io/v1`): a pod comes in, a JSON Patch or a refusal goes out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    DOMAIN,
    inject::{inject, is_disabled},
    settings::{Settings, Writer},
};

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What is to be changed about a pod.
    Mutate,
    /// Whether a pod may be; it may without a sidecar if it says so and that is not `required`.
    Validate {
        /// Whether every pod needs its sidecar.
        required: bool,
    },
}

#[derive(Deserialize)]
struct Review {
    #[serde(rename = "apiVersion")]
    version: String,
    kind: String,
    request: Asked,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    kind: Kind,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// A body that is no review.
#[derive(Debug, thiserror::Error)]
pub enum NoReview {
    /// It cannot be read.
    #[error("expected an AdmissionReview: {0}")]
    Unread(#[from] serde_json::Error),
    /// It is something else.
    #[error("expected an AdmissionReview of admission.k8s.io/v1")]
    Other,
}

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The pod gets its sidecar.
    Injected,
    /// It is as it should be, or none of ours.
    Unchanged,
    /// It may not be.
    Refused,
}

impl Outcome {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Answers a review.
///
/// # Errors
/// [`NoReview`].
pub fn answer(
    body: &[u8],
    question: Question,
    settings: &Settings,
) -> Result<(Outcome, Value), NoReview> {
    let review: Review = serde_json::from_slice(body)?;
    if review.version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
        return Err(NoReview::Other);
    }
    let Asked { uid, kind, object } = review.request;
    let pod = kind.group.is_empty() && kind.kind == "Pod";
    let (outcome, mut response) = if pod {
        judged(&object, question, settings)
    } else {
        (Outcome::Unchanged, allowed(&[]))
    };
    response.insert("uid".into(), json!(uid));
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response,
    });
    Ok((outcome, review))
}

/// `response` of a review.
type Response = Map<String, Value>;

fn judged(pod: &Value, question: Question, settings: &Settings) -> (Outcome, Response) {
    let required = matches!(question, Question::Validate { required: true });
    if is_disabled(pod) {
        return if required {
            refused(&format!(
                "every pod here needs its sidecar: remove the label `{DOMAIN}/inject: disabled`"
            ))
        } else {
            (Outcome::Unchanged, allowed(&[]))
        };
    }
    let plan = match inject(pod, settings, Writer::Deployer) {
        Ok(plan) => plan,
        Err(why) => return refused(&why.to_string()),
    };
    let Some(first) = plan.changes.first() else {
        return (Outcome::Unchanged, allowed(&plan.warnings));
    };
    if let Question::Validate { .. } = question {
        return refused(&format!(
            "the sidecar is not in it, or not as it was injected (`{}`): let the injector do it, and let nothing change it after that",
            first.path(),
        ));
    }
    let patch: Value = plan
        .changes
        .iter()
        .map(super::edit::Change::operation)
        .collect();
    let mut response = allowed(&plan.warnings);
    let patch = STANDARD.encode(patch.to_string());
    response.insert("patchType".into(), json!("JSONPatch"));
    response.insert("patch".into(), json!(patch));
    (Outcome::Injected, response)
}

fn allowed(warnings: &[String]) -> Response {
    let mut response = Response::new();
    response.insert("allowed".into(), json!(true));
    if !warnings.is_empty() {
        let warnings = warnings.iter().map(|one| format!("outrider: {one}"));
        response.insert("warnings".into(), warnings.collect());
    }
    response
}

fn refused(why: &str) -> (Outcome, Response) {
    let status = json!({ "code": 403, "message": format!("outrider: {why}") });
    let mut response = Response::new();
    response.insert("allowed".into(), json!(false));
    response.insert("status".into(), status);
    (Outcome::Refused, response)
}
