//! The decision log's chain, checked by other means than the product's.

use serde_json::Value;

use crate::sha256_hex;

/// Checks that each line is chained to the one before it and that `seq` counts every line; returns
/// the number of lines.
///
/// # Errors
/// The first line that is not as it should be, counted from 1, and why.
pub fn check_chain(log: &str) -> Result<usize, String> {
    let mut prev = "0".repeat(64);
    let mut count = 0;
    for line in log.lines() {
        count += 1;
        prev = check_line(line, count, &prev).map_err(|why| format!("line {count}: {why}"))?;
    }
    Ok(count)
}

fn check_line(line: &str, number: usize, prev: &str) -> Result<String, String> {
    let record: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let (hashed, _) = line.rsplit_once(",\"hash\":").ok_or("no hash")?;
    let hash = sha256_hex(hashed.as_bytes());
    let tail = format!(",\"prev\":\"{prev}\",\"hash\":\"{hash}\"}}");
    if !line.ends_with(&tail) {
        return Err(format!("does not end in {tail}"));
    }
    if record["seq"] != number {
        return Err(format!("seq is {}", record["seq"]));
    }
    Ok(hash)
}
