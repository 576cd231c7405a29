//! Reading a tar: ustar, PAX and GNU's long names, judged before anything is done with them.
//!
//! Bodies of extended headers are limited before they are read, and a size in a PAX record always
//! wins over the header's, so this reader and a strict one never see different members in the same
//! bytes.

use std::io::{self, Read};

use tar::EntryType;

use super::header::{BLOCK, Member, RawHeader};
use super::overrides::Overrides;
use super::pax;
use super::sparse::{self, SparseMap};

/// The most that an extended header or a long name may hold. Attributes are 64 KiB at most each.
const MAX_EXTENSION: u64 = 1 << 20;

/// Errors name the member they are about, or the last one that was whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reading the archive failed near {path:?}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the archive is cut off near {path:?}")]
    Truncated { path: String },
    #[error("the archive is damaged near {path:?}: {what}")]
    Malformed { path: String, what: &'static str },
    #[error("the archive's member {path:?} is of type {kind:?}, which is not supported")]
    Kind { path: String, kind: char },
    #[error("the archive has a global header for {key:?}, which is not supported")]
    Global { key: String },
    #[error("the archive is larger than the limit of {limit} bytes")]
    TooLarge { limit: u64 },
}

/// Whether `prefix`, the first bytes of a file, starts like a tar: 512 bytes that are a header with a
/// right checksum.
pub(crate) fn is_tar(prefix: &[u8]) -> bool {
    prefix
        .first_chunk::<BLOCK>()
        .is_some_and(|block| RawHeader::new(block).is_some())
}

/// A tar that is read once, from front to back.
pub(super) struct Archive<'a> {
    input: io::BufReader<&'a mut dyn Read>,
    /// Bytes that the whole tar may still have.
    allowance: u64,
    limit: u64,
    /// Bytes of the current member's data that were not read yet, and the padding after them.
    data: u64,
    padding: u64,
    /// Where the data of the current member belongs, if it is a sparse file.
    sparse: Option<SparseMap>,
    /// The path of the last member, for errors.
    near: Vec<u8>,
}

/// What extended headers say about the member that follows them.
#[derive(Default)]
struct Extensions {
    pax: Option<Vec<u8>>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<'a> Archive<'a> {
    /// `limit` is the most bytes that the tar may have, its end included.
    pub(super) fn new(input: &'a mut dyn Read, limit: u64) -> Self {
        Self {
            input: io::BufReader::with_capacity(256 << 10, input),
            allowance: limit,
            limit,
            data: 0,
            padding: 0,
            sparse: None,
            near: Vec::new(),
        }
    }

    /// The next member, its data still to be read. At the end everything that follows is read too, so
    /// that whoever hashes the stream sees all of it.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>, Error> {
        self.skip_data()?;
        let mut extensions = Extensions::default();
        loop {
            let mut block = [0_u8; BLOCK];
            if !self.read_block(&mut block)? {
                if extensions.any() {
                    return Err(self.truncated());
                }
                return Ok(None);
            }
            let Some(header) = RawHeader::new(&block) else {
                return Err(self.malformed("a header has a wrong checksum"));
            };
            let slot = match header.kind() {
                b'x' => &mut extensions.pax,
                b'L' => &mut extensions.long_path,
                b'K' => &mut extensions.long_link,
                b'g' => {
                    let body = self.read_extension(header)?;
                    self.check_global(&body)?;
                    continue;
                }
                _ => return self.member(header, &extensions).map(Some),
            };
            if slot.is_some() {
                return Err(self.malformed("one member has two extended headers of a kind"));
            }
            *slot = Some(self.read_extension(header)?);
        }
    }

    /// Reads data of the current member; zero bytes mean that all of it was read.
    pub(super) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = usize::try_from(self.data).map_or(buffer.len(), |data| data.min(buffer.len()));
        if length == 0 {
            return Ok(0);
        }
        let count = self.read_some(&mut buffer[..length])?;
        if count == 0 {
            return Err(self.truncated());
        }
        self.data -= count as u64;
        Ok(count)
    }

    /// Where the data of the current member belongs; `None` for a file without holes.
    pub(super) fn take_sparse(&mut self) -> Option<SparseMap> {
        self.sparse.take()
    }

    /// Gets to the data of a file, which are `size` bytes, past the map that may be before it.
    fn sparse_map(
        &mut self,
        header: RawHeader<'_>,
        size: u64,
        records: Option<sparse::Records>,
    ) -> Result<Option<SparseMap>, Error> {
        const WRONG: &str = "the map of a sparse file is wrong";
        let (numbers, whole) = if header.kind() == b'S' {
            let (fields, mut goes_on, whole) =
                header.old_sparse().ok_or_else(|| self.malformed(WRONG))?;
            let mut numbers = Vec::new();
            sparse::old_numbers(fields, &mut numbers).ok_or_else(|| self.malformed(WRONG))?;
            while goes_on {
                let mut block = [0_u8; BLOCK];
                if !self.fill(&mut block)? {
                    return Err(self.truncated());
                }
                goes_on = block[504] != 0;
                sparse::old_numbers(&block[..504], &mut numbers)
                    .ok_or_else(|| self.malformed(WRONG))?;
            }
            self.expect_data(size);
            (numbers, whole)
        } else {
            self.expect_data(size);
            let Some(records) = records else {
                return Ok(None);
            };
            match records.form().ok_or_else(|| self.malformed(WRONG))? {
                sparse::Form::Parts { numbers, size } => (numbers, size),
                sparse::Form::InData { size } => (self.map_in_data(WRONG)?, size),
            }
        };
        let map = SparseMap::new(&numbers, whole, self.data);
        map.map(Some).ok_or_else(|| self.malformed(WRONG))
    }

    fn map_in_data(&mut self, wrong: &'static str) -> Result<Vec<u64>, Error> {
        let mut lines = sparse::Lines::default();
        loop {
            let mut block = [0_u8; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.read_data(&mut block[filled..])? {
                    0 => return Err(self.malformed(wrong)),
                    count => filled += count,
                }
            }
            if lines.take(&block).ok_or_else(|| self.malformed(wrong))? {
                return Ok(lines.numbers);
            }
        }
    }

    fn member(&mut self, header: RawHeader<'_>, extensions: &Extensions) -> Result<Member, Error> {
        let mut path = header.path();
        let mut link = header.link().to_vec();
        if let Some(long) = &extensions.long_path {
            path = until_nul(long).to_vec();
        }
        if let Some(long) = &extensions.long_link {
            link = until_nul(long).to_vec();
        }
        self.near.clone_from(&path);
        let numbers = (|| {
            Some((
                header.mode()?,
                header.uid()?,
                header.gid()?,
                header.mtime()?,
                header.size()?,
            ))
        })();
        let Some((mode, uid, gid, mtime, size)) = numbers else {
            return Err(self.malformed("a number in a header is no number"));
        };
        let mut read = Overrides {
            path,
            link,
            uid,
            gid,
            size,
            mtime: (mtime, 0),
            attributes: Vec::new(),
            sparse: None,
        };
        if let Some(body) = &extensions.pax {
            read.apply(body).map_err(|what| self.malformed(what))?;
        }
        self.near.clone_from(&read.path);
        let kind = self.kind(header.kind(), &read.path)?;
        // The last number is no id: to chown(2) it means that the owner stays.
        let id = |id: i64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(read.uid), id(read.gid)) else {
            return Err(self.malformed("an owner is out of range"));
        };
        let is_device = matches!(kind, EntryType::Char | EntryType::Block);
        let device = if is_device {
            header.device()
        } else {
            Some((0, 0))
        };
        let Some(device) = device else {
            return Err(self.malformed("a device number is no number"));
        };
        // Only files have data: in headers of links and directories the size means something else.
        let mut size = if kind == EntryType::Regular {
            read.size
        } else {
            0
        };
        self.sparse = if kind == EntryType::Regular {
            self.sparse_map(header, size, read.sparse)?
        } else {
            self.expect_data(size);
            None
        };
        if let Some(map) = &self.sparse {
            size = map.size;
        }
        Ok(Member {
            path: read.path,
            link: read.link,
            kind,
            mode: u32::try_from(mode & 0o7777).expect("twelve bits"),
            uid,
            gid,
            size,
            mtime: read.mtime,
            device,
            attributes: read.attributes,
        })
    }

    fn kind(&self, kind: u8, path: &[u8]) -> Result<EntryType, Error> {
        Ok(match kind {
            // Before POSIX a directory was a file whose name ends in a slash.
            b'0' | 0 if path.ends_with(b"/") => EntryType::Directory,
            b'0' | 0 => EntryType::Regular,
            b'1' => EntryType::Link,
            b'2' => EntryType::Symlink,
            b'3' => EntryType::Char,
            b'4' => EntryType::Block,
            b'5' => EntryType::Directory,
            b'6' => EntryType::Fifo,
            b'S' => EntryType::Regular,
            other => {
                return Err(Error::Kind {
                    path: self.near(),
                    kind: char::from(other),
                });
            }
        })
    }

    /// Global headers are accepted where they say nothing about files: git puts its commit there.
    fn check_global(&self, body: &[u8]) -> Result<(), Error> {
        let Some(records) = pax::parse(body) else {
            return Err(self.malformed("a record of an extended header is malformed"));
        };
        let harmless = |key: &[u8]| {
            matches!(
                key,
                b"comment" | b"charset" | b"hdrcharset" | b"atime" | b"ctime"
            )
        };
        match records.iter().find(|(key, _)| !harmless(key)) {
            None => Ok(()),
            Some((key, _)) => Err(Error::Global {
                key: String::from_utf8_lossy(key).into_owned(),
            }),
        }
    }

    fn read_extension(&mut self, header: RawHeader<'_>) -> Result<Vec<u8>, Error> {
        let size = header.size().filter(|size| *size <= MAX_EXTENSION);
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
            return Err(self.malformed("an extended header is too long"));
        };
        let mut body = vec![0; size];
        self.expect_data(size as u64);
        let mut filled = 0;
        while filled < size {
            filled += self.read_data(&mut body[filled..])?;
        }
        self.skip_data()?;
        Ok(body)
    }

    fn expect_data(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<(), Error> {
        let mut left = u128::from(self.data) + u128::from(self.padding);
        (self.data, self.padding) = (0, 0);
        let mut scratch = [0_u8; 8192];
        while left > 0 {
            let length =
                usize::try_from(left).map_or(scratch.len(), |left| left.min(scratch.len()));
            let count = self.read_some(&mut scratch[..length])?;
            if count == 0 {
                return Err(self.truncated());
            }
            left -= count as u128;
        }
        Ok(())
    }

    /// Reads the next header block; `false` at the end, which is a block of zeros (two, unless the
    /// input ends) or the end of the input.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        if !self.fill(block)? {
            return Ok(false);
        }
        if block.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        if self.fill(block)? && block.iter().any(|byte| *byte != 0) {
            return Err(self.malformed("a block of zeros is between members"));
        }
        let mut scratch = [0_u8; 8192];
        while self.read_some(&mut scratch)? > 0 {}
        Ok(false)
    }

    fn fill(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(self.truncated()),
                count => filled += count,
            }
        }
        Ok(true)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = loop {
            match self.input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Read {
                        path: self.near(),
                        source,
                    });
                }
                Ok(count) => break count,
            }
        };
        match self.allowance.checked_sub(count as u64) {
            Some(rest) => self.allowance = rest,
            None => return Err(Error::TooLarge { limit: self.limit }),
        }
        Ok(count)
    }

    fn near(&self) -> String {
        String::from_utf8_lossy(&self.near).into_owned()
    }

    fn truncated(&self) -> Error {
        Error::Truncated { path: self.near() }
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed {
            path: self.near(),
            what,
        }
    }
}

impl Extensions {
    fn any(&self) -> bool {
        self.pax.is_some() || self.long_path.is_some() || self.long_link.is_some()
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}
