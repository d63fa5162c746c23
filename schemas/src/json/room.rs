//! What values take in memory, counted on the safe side while they are read and afterwards.

use std::cell::Cell;

use regorus::Value;

use super::{MAX_MEMORY, MAX_VALUES};

/// One value in its place.
const VALUE: usize = size_of::<Value>();
/// A shared piece of memory: its counts, and what the allocator rounds up to.
const SHARED: usize = 32;
/// An item of an array, which grows by doubling.
const ITEM: usize = 2 * VALUE;
/// A node of a map: room for eleven members.
const NODE: usize = 2 * 11 * VALUE + SHARED;
/// Members after which there is another node: they are split when they are full.
const MEMBERS: usize = 5;

/// What is left for the values of one text.
#[derive(Debug)]
pub(super) struct Room {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            values: Cell::new(MAX_VALUES),
            bytes: Cell::new(MAX_MEMORY),
        }
    }
}

impl Room {
    /// For an operator's document, which is bounded by its values alone.
    pub(super) fn of_document() -> Self {
        Self {
            bytes: Cell::new(usize::MAX),
            ..Self::default()
        }
    }

    /// Room for one more value, whatever it is.
    pub(super) fn value(&self) -> Option<()> {
        take(&self.values, 1)
    }

    /// Room for a string of that length.
    pub(super) fn text(&self, length: usize) -> Option<()> {
        take(&self.bytes, SHARED + length)
    }

    /// Room for an array or an object itself.
    pub(super) fn container(&self) -> Option<()> {
        take(&self.bytes, 2 * SHARED)
    }

    /// Room for one more item in an array.
    pub(super) fn item(&self) -> Option<()> {
        take(&self.bytes, ITEM)
    }

    /// Room for one more member in an object that has so many.
    pub(super) fn member(&self, before: usize) -> Option<()> {
        take(&self.bytes, member(before))
    }
}

fn member(before: usize) -> usize {
    if before.is_multiple_of(MEMBERS) {
        NODE
    } else {
        0
    }
}

fn take(from: &Cell<usize>, wanted: usize) -> Option<()> {
    from.set(from.get().checked_sub(wanted)?);
    Some(())
}

/// What a value that was read takes in memory, in bytes.
pub fn memory(value: &Value) -> usize {
    match value {
        Value::String(text) => SHARED + text.len(),
        Value::Array(items) => {
            let items = items.iter().map(|item| ITEM + memory(item));
            2 * SHARED + items.sum::<usize>()
        }
        Value::Object(members) => {
            let members = members.iter().enumerate();
            let each = members.map(|(n, (key, value))| member(n) + memory(key) + memory(value));
            2 * SHARED + each.sum::<usize>()
        }
        _ => 0,
    }
}
