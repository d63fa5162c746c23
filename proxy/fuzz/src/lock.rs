//! The lock file and the catalogue of JSON-RPC methods: what loads is written and read as itself,
//! and every entry of it is a tool.

use outrider_schemas::{
    catalogue::{Contract, check},
    jsonrpc::Catalogue,
    lock::{Listed, Lock, digest},
};
use serde_json::Value;

/// The bytes are a lock file, a catalogue, or what a server lists.
pub fn run(data: &[u8]) {
    if let Ok(lock) = Lock::parse(data) {
        whole(lock);
    }
    if let Ok(catalogue) = Catalogue::parse(data) {
        let count = catalogue.methods.len();
        if let Ok(contract) = catalogue.compile() {
            assert_eq!(contract.tools().count(), count);
        }
    }
    if let Ok(Value::Array(tools)) = serde_json::from_slice(data) {
        listed(&tools);
    }
}

fn whole(lock: Lock) {
    let again = Lock::parse(lock.to_json().as_bytes()).expect("what was written is readable");
    assert_eq!(again, lock);
    for tool in lock.tools.values() {
        let expected = digest(&tool.input_schema, tool.output_schema.as_ref());
        assert_eq!(tool.digest, expected, "a digest that is not of its schemas");
    }
    let mut fine = true;
    let mut count = 0;
    for (section, entries) in lock.clone().sections() {
        for (name, entry) in &entries {
            count += 1;
            fine &= check(section, name, entry).is_ok();
        }
    }
    match Contract::compile(lock) {
        Ok(contract) => {
            assert!(fine, "an entry that alone is refused");
            assert_eq!(contract.tools().count(), count, "two entries are one tool");
        }
        Err(bad) => assert!(!bad.is_empty(), "refused without a reason"),
    }
}

/// What `schemas lock` makes of a server's list can be read again.
fn listed(tools: &[Value]) {
    let listed = Listed {
        tools: tools.to_vec(),
        ..Listed::default()
    };
    let (lock, _) = Lock::from_server(&listed, "owner@example.org");
    let again = Lock::parse(lock.to_json().as_bytes()).expect("what was locked is readable");
    assert_eq!(again, lock);
    Contract::compile(lock).expect("what was locked compiles");
}
