//! What a walk found, in about 50 bytes for each file: a context may have a million.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::walk::Node;
use crate::context::digest::Stamp;

/// Something below a selected directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'e> {
    pub(super) name: &'e OsStr,
    /// 1 for what is in the selected directory itself.
    pub(super) depth: usize,
    pub(super) node: Node,
    /// The text of a link.
    pub(super) target: Option<&'e OsStr>,
    /// A directory that is there for what is in it only: no `--parents` pattern names it, or
    /// `--exclude` does. One that is in the image already keeps its owner.
    pub(super) is_implied: bool,
}

/// Entries in the order of the walk, parents first. Numbers are LEB128, as most are small.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<u8>);

/// How far a walk had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(usize);

const IS_LINKED: u64 = 1;
const IS_IMPLIED: u64 = 2;
const HAS_TARGET: u64 = 4;

impl Entries {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.0.len())
    }

    /// Takes everything away that came after `mark`.
    pub(super) fn truncate(&mut self, mark: Mark) {
        self.0.truncate(mark.0);
    }

    pub(super) fn push(&mut self, entry: Entry<'_>) {
        let Entry { node, target, .. } = entry;
        let stamp = &node.stamp;
        let flag = |is: bool, flag| if is { flag } else { 0 };
        self.number(
            flag(node.is_linked, IS_LINKED)
                | flag(entry.is_implied, IS_IMPLIED)
                | flag(target.is_some(), HAS_TARGET),
        );
        self.number(entry.depth as u64);
        self.number(stamp.device);
        self.number(stamp.inode);
        self.number(stamp.size.cast_unsigned());
        for (seconds, nanoseconds) in [stamp.modified, stamp.changed] {
            self.number(seconds.cast_unsigned());
            self.number(nanoseconds.cast_unsigned());
        }
        self.number(stamp.mode.into());
        self.number(node.owner.0.into());
        self.number(node.owner.1.into());
        self.number(node.device);
        self.text(entry.name);
        if let Some(target) = target {
            self.text(target);
        }
    }

    pub(super) fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn text(&mut self, text: &OsStr) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }
}

#[derive(Debug)]
pub(super) struct Iter<'e>(&'e [u8]);

impl<'e> Iterator for Iter<'e> {
    type Item = Entry<'e>;

    fn next(&mut self) -> Option<Entry<'e>> {
        if self.0.is_empty() {
            return None;
        }
        let flags: u64 = self.number();
        let depth = self.number();
        let (device, inode) = (self.number(), self.number());
        let size = self.signed();
        let modified = self.time();
        let changed = self.time();
        let stamp = Stamp {
            device,
            inode,
            size,
            modified,
            changed,
            mode: self.number(),
        };
        let node = Node {
            stamp,
            owner: (self.number(), self.number()),
            is_linked: flags & IS_LINKED != 0,
            device: self.number(),
        };
        let name = self.text();
        let target = (flags & HAS_TARGET != 0).then(|| self.text());
        Some(Entry {
            name,
            depth,
            node,
            target,
            is_implied: flags & IS_IMPLIED != 0,
        })
    }
}

impl<'e> Iter<'e> {
    fn number<T: TryFrom<u64>>(&mut self) -> T {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().expect("the number was written whole");
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        T::try_from(number).unwrap_or_else(|_| unreachable!("it was written from one of this type"))
    }

    fn signed(&mut self) -> i64 {
        self.number::<u64>().cast_signed()
    }

    fn time(&mut self) -> (i64, i64) {
        (self.signed(), self.signed())
    }

    fn text(&mut self) -> &'e OsStr {
        let length: usize = self.number();
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        OsStr::from_bytes(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'e>(number: u32, name: &'e str, target: Option<&'e str>) -> Entry<'e> {
        Entry {
            name: OsStr::new(name),
            depth: number.try_into().unwrap(),
            node: Node {
                stamp: Stamp {
                    device: number.into(),
                    inode: u64::MAX - u64::from(number),
                    size: number.into(),
                    modified: (i64::MIN, 999_999_999),
                    changed: (-1, number.into()),
                    mode: u32::MAX,
                },
                owner: (u32::MAX, number),
                is_linked: number % 2 == 1,
                device: u64::MAX,
            },
            target: target.map(OsStr::new),
            is_implied: number % 3 == 1,
        }
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let long = "x".repeat(255);
        let all = [
            entry(0, "a", None),
            entry(1, "name with\nlines", Some("../target")),
            entry(127, "", Some("")),
            entry(128, "ä", None),
            entry(u32::MAX, &long, Some("y")),
        ];
        let mut entries = Entries::default();
        assert!(entries.is_empty());
        for one in all {
            entries.push(one);
        }
        let shown = |entry: Entry<'_>| format!("{entry:?}");
        let read: Vec<String> = entries.iter().map(shown).collect();
        assert_eq!(read, all.map(shown));
    }

    #[test]
    fn what_came_after_a_mark_can_be_taken_away() {
        let mut entries = Entries::default();
        entries.push(entry(1, "kept", None));
        let mark = entries.mark();
        entries.push(entry(2, "gone", Some("link")));
        assert_ne!(entries.mark(), mark);
        entries.truncate(mark);
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["kept"]);
    }
}
