//! What holds for every record of owners, however odd; the fuzz target asks it.

use super::record::{Entry, Record};

/// An attribute that is understood is written the same again, and its device is judged without a panic.
pub(crate) fn attribute_holds(value: &[u8]) {
    if let Some(record) = Record::decode(value) {
        assert_eq!(record.encode(), value);
        let _ = record.device.is_some_and(super::record::Device::exists);
    }
}

/// All of a table but a beginning of an entry is understood, and written the same again.
pub(crate) fn table_holds(table: &[u8]) {
    let again: Vec<u8> = Entry::decode_all(table).flat_map(Entry::encode).collect();
    assert!(table.starts_with(&again));
    assert!(table.len() - again.len() < Entry::SIZE);
}
