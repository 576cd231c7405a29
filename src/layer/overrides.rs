//! What PAX records say of a member, over what its header says.

use super::attributes::Attributes;
use super::unpack::MAX_ATTRIBUTES;
use super::{pax, sparse};

/// The fields that PAX records can replace.
pub(super) struct Overrides {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: u64,
    pub(super) mtime: (i64, i64),
    pub(super) attributes: Attributes,
    pub(super) sparse: Option<sparse::Records>,
}

impl Overrides {
    pub(super) fn apply(&mut self, body: &[u8]) -> Result<(), &'static str> {
        let records = pax::parse(body).ok_or("a record of an extended header is malformed")?;
        for (key, value) in records {
            // An empty value takes the record back; what the header says holds.
            if value.is_empty() && !key.starts_with(pax::XATTR) {
                continue;
            }
            match key {
                b"path" => self.path = checked_text(value)?,
                b"linkpath" => self.link = checked_text(value)?,
                b"size" => self.size = decimal(value)?,
                b"uid" => self.uid = decimal(value)?,
                b"gid" => self.gid = decimal(value)?,
                b"mtime" => {
                    self.mtime = pax::parse_time(value).ok_or("a time is no number")?;
                }
                // Keys that are not known are to be ignored, says pax(1).
                _ => {
                    if let Some(key) = key.strip_prefix(pax::SPARSE) {
                        let records = self.sparse.get_or_insert_default();
                        records
                            .take(key, value)
                            .ok_or("a record of a sparse file is malformed")?;
                    } else if let Some(name) = key.strip_prefix(pax::XATTR) {
                        let name = checked_text(name)?;
                        self.attributes.retain(|(known, _)| *known != name);
                        if self.attributes.len() >= MAX_ATTRIBUTES {
                            return Err("a file has too many extended attributes");
                        }
                        self.attributes.push((name, value.to_vec()));
                    }
                }
            }
        }
        if let Some(name) = self.sparse.as_mut().and_then(|records| records.name.take()) {
            self.path = checked_text(&name)?;
        }
        Ok(())
    }
}

fn checked_text(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    if text.contains(&0) {
        return Err("a name holds a zero byte");
    }
    Ok(text.to_vec())
}

fn decimal<N: std::str::FromStr>(text: &[u8]) -> Result<N, &'static str> {
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or("a number in an extended header is no number")
}
