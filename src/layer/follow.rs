//! Following a tar as it is written: which member each of its bytes belongs to.

use super::header::{BLOCK, RawHeader};
use super::pax;

/// How much of extended headers is kept, to find names and sizes in.
const LONGEST_EXTENSION: usize = 2 << 20;

/// What comes next in a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Bytes of a member: its headers, its contents, and what pads them.
    Bytes(&'a [u8]),
    /// The end of the member with this path.
    End(&'a [u8]),
}

/// Cuts a tar that comes in pieces into its members. The tar is taken to be right; of one that is not,
/// every byte still comes.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// The beginning of a header block.
    header: Vec<u8>,
    /// Bytes of the body that are still to come, padding included.
    left: u64,
    /// The body of an extended header, while it comes.
    extension: Option<Vec<u8>>,
    /// What extended headers said about the member that follows.
    path: Option<Vec<u8>>,
    size: Option<u64>,
    /// The path of the member that has begun.
    current: Option<Vec<u8>>,
}

impl Follower {
    /// Takes the next bytes of the tar.
    pub(crate) fn push(&mut self, mut bytes: &[u8], visit: &mut dyn FnMut(Part<'_>)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (body, rest) = bytes.split_at(bytes.len().min(most));
                self.left -= body.len() as u64;
                if let Some(extension) = &mut self.extension {
                    let room = LONGEST_EXTENSION.saturating_sub(extension.len());
                    extension.extend_from_slice(&body[..body.len().min(room)]);
                }
                visit(Part::Bytes(body));
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - self.header.len()));
            self.header.extend_from_slice(part);
            bytes = rest;
            if self.header.len() == BLOCK {
                let block = std::mem::take(&mut self.header);
                self.begin(&block, visit);
            }
        }
    }

    /// Ends the last member, when nothing more comes.
    pub(crate) fn finish(&mut self, visit: &mut dyn FnMut(Part<'_>)) {
        if !self.header.is_empty() {
            visit(Part::Bytes(&std::mem::take(&mut self.header)));
        }
        self.end(visit);
    }

    fn end(&mut self, visit: &mut dyn FnMut(Part<'_>)) {
        if let Some(path) = self.current.take() {
            visit(Part::End(&path));
        }
    }

    fn begin(&mut self, block: &[u8], visit: &mut dyn FnMut(Part<'_>)) {
        if let Some(extension) = self.extension.take() {
            self.read(&extension);
        } else {
            self.end(visit);
        }
        visit(Part::Bytes(block));
        let header = <&[u8; BLOCK]>::try_from(block)
            .ok()
            .and_then(RawHeader::new);
        // The two blocks of zeros at the end, among others.
        let Some(header) = header else { return };
        let mut size = header.size().unwrap_or(0);
        if matches!(header.kind(), b'x' | b'g' | b'L' | b'K') {
            let kept = size.min(LONGEST_EXTENSION as u64);
            self.extension = Some(Vec::with_capacity(usize::try_from(kept).unwrap_or(0)));
        } else {
            self.current = Some(self.path.take().unwrap_or_else(|| header.path()));
            size = self.size.take().unwrap_or(size);
        }
        self.left = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        if self.left == 0 && self.extension.is_some() {
            self.extension = None;
        }
    }

    fn read(&mut self, extension: &[u8]) {
        // The records end where the padding begins.
        let end = extension.iter().rposition(|byte| *byte != 0);
        let records = end.and_then(|end| pax::parse(&extension[..=end]));
        for (key, value) in records.unwrap_or_default() {
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"size" => self.size = std::str::from_utf8(value).ok().and_then(|s| s.parse().ok()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_belongs_to_one_member_however_the_tar_is_cut() {
        let mut tar = tar::Builder::new(Vec::new());
        let long = "d/".repeat(120) + "long";
        for (path, contents) in [
            ("a", vec![b'A'; 1000]),
            (&long, vec![b'B'; 3]),
            ("c", vec![]),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            if path.len() > 100 {
                tar.append_pax_extensions([("path", path.as_bytes())])
                    .unwrap();
                header.set_path("short").unwrap();
            } else {
                header.set_path(path).unwrap();
            }
            header.set_cksum();
            tar.append(&header, contents.as_slice()).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        for step in [1, 7, 512, 700, 1 << 20] {
            let (mut follower, mut members, mut bytes) =
                (Follower::default(), Vec::new(), Vec::new());
            let mut own = Vec::new();
            let mut visit = |part: Part<'_>| match part {
                Part::Bytes(part) => {
                    bytes.extend_from_slice(part);
                    own.extend_from_slice(part);
                }
                Part::End(path) => {
                    let text = String::from_utf8(path.to_vec()).unwrap();
                    members.push((text, own.contains(&b'A'), own.contains(&b'B')));
                    own.clear();
                }
            };
            for piece in tar.chunks(step) {
                follower.push(piece, &mut visit);
            }
            follower.finish(&mut visit);
            assert_eq!(bytes, tar, "{step}");
            let expected = [
                ("a".to_owned(), true, false),
                (long.clone(), false, true),
                ("c".to_owned(), false, false),
            ];
            assert_eq!(members, expected, "{step}");
        }
    }
}
