//! Reads a page of our own families (`OpenMetrics` 1.0.0, or Prometheus text).

/// A family and what it counts.
#[derive(Debug, Default)]
pub(crate) struct Family<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) samples: Vec<Sample<'a>>,
}

/// One line of the page.
#[derive(Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: Vec<(&'a str, String)>,
    pub(crate) value: f64,
    pub(crate) exemplar: Option<&'a str>,
}

/// The families of a page of ours (`OpenMetrics` 1.0.0).
pub(crate) fn families(page: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in page.lines() {
        let told = line
            .strip_prefix("# ")
            .map(|rest| rest.splitn(3, ' ').collect::<Vec<_>>());
        match told.as_deref() {
            Some([word @ ("HELP" | "TYPE"), name, rest]) => {
                if families.last().is_none_or(|family| family.name != *name) {
                    families.push(Family {
                        name,
                        ..Family::default()
                    });
                }
                if let Some(family) = families.last_mut() {
                    let place = if *word == "HELP" {
                        &mut family.help
                    } else {
                        &mut family.kind
                    };
                    *place = rest;
                }
            }
            Some(_) => {}
            None => {
                if let (Some(family), Some(sample)) = (families.last_mut(), sample(line)) {
                    family.samples.push(sample);
                }
            }
        }
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (line, exemplar) = match line.split_once(" # ") {
        Some((line, exemplar)) => (line, Some(exemplar)),
        None => (line, None),
    };
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labelled(labels.strip_suffix('}')?)?),
        None => (head, Vec::new()),
    };
    Some(Sample {
        name,
        labels,
        value: number(value)?,
        exemplar,
    })
}

pub(crate) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| !value.is_nan())
}

/// `name="value",…`, with the escapes undone.
pub(crate) fn labelled(mut text: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name.trim_start_matches(','), value));
        text = rest.get(end + 1..)?;
    }
    Some(labels)
}
