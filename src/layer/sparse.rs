//! Sparse files: the old form of GNU tar and its three forms in PAX records ("Storing Sparse Files" in
//! its manual).

use super::header::number;

/// The most parts that a file may have; GNU tar has no limit.
const MAX_PARTS: usize = 1 << 20;

/// Where the stored data of a file belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    /// Offset and length of each part that holds data, in the order of the file.
    pub(super) parts: Vec<(u64, u64)>,
    /// The size of the whole file.
    pub(super) size: u64,
}

impl SparseMap {
    /// `None` unless the parts follow each other inside the file and take all of the `stored` bytes.
    pub(super) fn new(numbers: &[u64], size: u64, stored: u64) -> Option<Self> {
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > MAX_PARTS {
            return None;
        }
        let (mut end, mut total) = (0_u64, 0_u64);
        for [offset, length] in pairs {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length)?;
            total = total.checked_add(*length)?;
        }
        let parts = pairs.iter().map(|[offset, length]| (*offset, *length));
        (end <= size && total == stored).then(|| Self {
            parts: parts.collect(),
            size,
        })
    }
}

/// Adds the offsets and lengths in `fields`, up to the first that is empty, of a header of type `S` or
/// a block that goes on with it; `None` if they are malformed or too many.
pub(super) fn old_numbers(fields: &[u8], numbers: &mut Vec<u64>) -> Option<()> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 {
            break;
        }
        for part in [&field[..12], &field[12..]] {
            numbers.push(u64::try_from(number(part)?).ok()?);
        }
    }
    (numbers.len() <= 2 * MAX_PARTS).then_some(())
}

/// What the `GNU.sparse.` records of one extended header say.
#[derive(Debug, Default)]
pub(super) struct Records {
    major: Option<u64>,
    /// The name of the file, where the header has that of the condensed form.
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    numbers: Vec<u64>,
}

/// What to do with a member that has [`Records`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The parts are known.
    Parts { numbers: Vec<u64>, size: u64 },
    /// The data begins with them.
    InData { size: u64 },
}

impl Records {
    /// Takes the record whose key is `GNU.sparse.` and `key`; `None` if it is malformed.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            b"map" => {
                for number in value.split(|byte| *byte == b',') {
                    self.numbers.push(decimal(number)?);
                }
            }
            // `numblocks` counts what is there, and `minor` is 0 in all that exists.
            b"numblocks" | b"minor" => drop(decimal(value)?),
            _ => return None,
        }
        Some(())
    }

    /// `None` if they do not make sense together.
    pub(super) fn form(self) -> Option<Form> {
        let size = self.size?;
        match self.major {
            Some(1) if self.numbers.is_empty() => Some(Form::InData { size }),
            None | Some(0) => Some(Form::Parts {
                numbers: self.numbers,
                size,
            }),
            Some(_) => None,
        }
    }
}

/// The numbers at the start of a member's data: their count, then offsets and lengths, a line each.
#[derive(Debug, Default)]
pub(super) struct Lines {
    count: Option<u64>,
    digits: Vec<u8>,
    pub(super) numbers: Vec<u64>,
}

impl Lines {
    /// Takes a block, of which what follows the last line is padding; tells whether it was the last
    /// one, `None` if it is malformed.
    pub(super) fn take(&mut self, block: &[u8]) -> Option<bool> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return None;
                }
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.digits))?;
            match self.count {
                None if number > MAX_PARTS as u64 => return None,
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
            if self.count.map(|count| 2 * count) == Some(self.numbers.len() as u64) {
                return Some(true);
            }
        }
        Some(false)
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_order_inside_the_file_and_take_all_data() {
        for (numbers, size, stored, is_right) in [
            (&[0, 4, 8, 2][..], 12, 6, true),
            (&[8, 4, 12, 0], 12, 4, true),
            (&[], 9, 0, true),
            (&[0, 4, 3, 2], 12, 6, false),
            (&[0, 4, 8, 5], 12, 9, false),
            (&[0, 4], 12, 5, false),
            (&[0, 4, 8], 12, 4, false),
            (&[1, u64::MAX], u64::MAX, u64::MAX, false),
        ] {
            let map = SparseMap::new(numbers, size, stored);
            assert_eq!(map.is_some(), is_right, "{numbers:?}");
        }
    }

    #[test]
    fn lines_may_be_cut_anywhere() {
        let text = b"2\n0\n4\n8\n2\n";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            assert_eq!(lines.take(&text[..cut]), Some(false));
            assert_eq!(lines.take(&text[cut..]), Some(true));
            assert_eq!(lines.numbers, [0, 4, 8, 2]);
        }
        assert_eq!(Lines::default().take(b"0\n"), Some(true));
        assert_eq!(Lines::default().take(b"x\n"), None);
        assert_eq!(Lines::default().take(b"99999999999999999999\n"), None);
    }
}
