//! Arguments that are kept after their call was judged, at a price that goes by their bytes.

use std::sync::Arc;

use outrider_policy::Value;
use outrider_schemas::json;

/// Messages of so few bytes are not worth a look.
const SMALL: usize = 1024;
/// What values may take, in bytes of their message.
const USUAL: usize = 8;

/// Arguments as values; as text where values take much more memory than that.
#[derive(Debug, Clone)]
pub struct Kept(Form);

#[derive(Debug, Clone)]
enum Form {
    Values(Value),
    Text(Arc<str>),
}

impl Kept {
    /// Keeps the arguments of a message of so many bytes.
    pub fn of(arguments: &Value, bytes: usize) -> Self {
        if bytes <= SMALL || json::memory(arguments) <= USUAL * bytes {
            return Self(Form::Values(arguments.clone()));
        }
        let text = arguments.to_json_str().ok();
        let same = |text: &String| json::parse(text.as_bytes()).as_ref() == Ok(arguments);
        Self(match text.filter(same) {
            Some(text) => Form::Text(text.into()),
            None => Form::Values(arguments.clone()),
        })
    }

    /// The arguments again.
    pub fn values(&self) -> Value {
        match &self.0 {
            Form::Values(values) => values.clone(),
            // It was read once already.
            Form::Text(text) => json::parse(text.as_bytes()).unwrap_or(Value::Undefined),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kept(text: &str) -> (Value, Kept) {
        let values = json::parse(text.as_bytes()).unwrap();
        let kept = Kept::of(&values, text.len());
        (values, kept)
    }

    #[test]
    fn arguments_are_what_they_were() {
        for text in [
            r#"{"a":[1,2.5,"\u00e9",null,true,-3,1e300]}"#.to_owned(),
            format!("[{}1.0]", r#"{"":0},"#.repeat(1000)),
            format!(r#"{{"a":"{}"}}"#, "a".repeat(10_000)),
        ] {
            let (values, kept) = kept(&text);
            assert_eq!(kept.values(), values);
        }
    }

    #[test]
    fn only_values_that_take_much_are_kept_as_text() {
        let is_text = |text: &str| matches!(kept(text).1.0, Form::Text(_));
        assert!(is_text(&format!("[{}0]", r#"{"":0},"#.repeat(1000))));
        assert!(!is_text(&format!("[{}0]", r#"{"":0},"#.repeat(10))));
        assert!(!is_text(&format!("\"{}\"", "a".repeat(10_000))));
    }
}
