//! The bytes of an archive: an OCI image layout with Docker's `manifest.json` beside it, so that one file
//! serves skopeo, umoci, podman, containerd and every `docker load`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};

use super::export::{Bundle, index_of};
use crate::oci::{Descriptor, Digest, Reference, to_json};
use crate::store;

/// Where an archive goes.
pub(crate) trait Out: Write {
    /// Writes the next `length` bytes of `file`, in the kernel where it can; fewer where it ends.
    fn copy(&mut self, file: &File, length: u64) -> io::Result<u64>;
}

impl Out for BufWriter<File> {
    fn copy(&mut self, file: &File, length: u64) -> io::Result<u64> {
        self.flush()?;
        // copy_file_range(2), or read and write where the file systems do not have it.
        io::copy(&mut io::Read::take(file, length), self.get_mut())
    }
}

impl Out for BufWriter<io::StdoutLock<'_>> {
    fn copy(&mut self, file: &File, length: u64) -> io::Result<u64> {
        io::copy(&mut io::Read::take(file, length), self)
    }
}

impl<O: Out + ?Sized> Out for &mut O {
    fn copy(&mut self, file: &File, length: u64) -> io::Result<u64> {
        (**self).copy(file, length)
    }
}

/// Bytes of a block of a tar.
const BLOCK: usize = 512;
/// Bytes between two reports of progress.
const PART: u64 = 16 << 20;

/// An archive in the making.
#[derive(Debug)]
pub(super) struct Archive<O> {
    out: O,
    /// What is in it.
    blobs: BTreeSet<Digest>,
    /// Bytes of those.
    written: u64,
}

impl<O: Out> Archive<O> {
    pub(super) fn begin(mut out: O) -> io::Result<Self> {
        for directory in ["blobs/", "blobs/sha256/"] {
            let mut header = header(0);
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            put_header(&mut out, header, directory)?;
        }
        Ok(Self {
            out,
            blobs: BTreeSet::new(),
            written: 0,
        })
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }

    /// How many blobs it has.
    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Adds a blob that is not in it.
    pub(super) fn add(
        &mut self,
        descriptor: &Descriptor,
        blob: &File,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        put_header(
            &mut self.out,
            header(descriptor.size),
            &name_of(&descriptor.digest),
        )?;
        let mut rest = descriptor.size;
        while rest > 0 {
            let count = self.out.copy(blob, rest.min(PART))?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest -= count;
            self.written += count;
            progress(self.written);
        }
        self.end_blob(descriptor)
    }

    fn end_blob(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        self.blobs.insert(descriptor.digest.clone());
        pad(&mut self.out, descriptor.size)
    }

    /// The documents that say what is in it, and its end.
    fn end(mut self, images: &[(Bundle, Vec<Reference>)]) -> io::Result<O> {
        let entries = images
            .iter()
            .flat_map(|(image, names)| image.entries(names));
        let docker = images
            .iter()
            .filter_map(|(image, names)| image.docker_manifest(names));
        let documents = [
            ("index.json", to_json(&index_of(entries.collect()))),
            ("manifest.json", to_json(&docker.collect::<Vec<_>>())),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ];
        for (name, bytes) in documents {
            put_header(&mut self.out, header(bytes.len() as u64), name)?;
            self.out.write_all(&bytes)?;
            pad(&mut self.out, bytes.len() as u64)?;
        }
        // POSIX, ustar interchange format: two blocks of zeros.
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Writes images with their names as one archive, an OCI layout and docker's form at the same time.
/// Equal images give equal bytes. `open` finds a blob.
pub(crate) fn write(
    open: &dyn Fn(&Digest) -> Result<File, store::Error>,
    images: &[(Bundle, Vec<Reference>)],
    out: impl Out,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    go_on(Archive::begin(out)?, open, images, progress).map(drop)
}

/// Writes the rest of an archive that has the first of the blobs.
pub(super) fn go_on<O: Out>(
    mut archive: Archive<O>,
    open: &dyn Fn(&Digest) -> Result<File, store::Error>,
    images: &[(Bundle, Vec<Reference>)],
    progress: &mut dyn FnMut(u64),
) -> io::Result<O> {
    for descriptor in images.iter().flat_map(|(image, _)| image.in_order()) {
        if !archive.has(&descriptor.digest) {
            let blob = open(&descriptor.digest).map_err(io::Error::other)?;
            archive.add(descriptor, &blob, progress)?;
        }
    }
    archive.end(images)
}

fn name_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A regular file's header without owner or time, so that it says nothing about this machine.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn put_header(out: &mut impl Write, mut header: tar::Header, name: &str) -> io::Result<()> {
    header.set_path(name)?;
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).expect("below a block");
    out.write_all(&[0; BLOCK][..padding])
}

/// An archive in a file, with the beginning of a blob that is still growing at its end.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) archive: Archive<BufWriter<File>>,
    /// The growing blob.
    pub(super) source: File,
    /// Where its header belongs.
    at: u64,
    /// Bytes of it that are there.
    copied: u64,
}

impl Unfinished {
    /// Leaves room for the header of `source`, whose name and size are not known yet.
    pub(super) fn begin(mut archive: Archive<BufWriter<File>>, source: File) -> io::Result<Self> {
        archive.out.flush()?;
        let at = archive.out.get_mut().stream_position()?;
        archive
            .out
            .get_mut()
            .seek(SeekFrom::Start(at + BLOCK as u64))?;
        Ok(Self {
            archive,
            source,
            at,
            copied: 0,
        })
    }

    /// Copies what `source` has by now; how much that was.
    pub(super) fn follow(&mut self) -> io::Result<u64> {
        let size = self.source.metadata()?.len();
        let count = self.archive.out.copy(&self.source, size - self.copied)?;
        self.copied += count;
        Ok(count)
    }

    /// Ends the blob, which is complete as `descriptor` says.
    pub(super) fn end(mut self, descriptor: &Descriptor) -> io::Result<Archive<BufWriter<File>>> {
        self.follow()?;
        if self.copied != descriptor.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let file = self.archive.out.get_mut();
        file.seek(SeekFrom::Start(self.at))?;
        put_header(file, header(descriptor.size), &name_of(&descriptor.digest))?;
        file.seek(SeekFrom::Start(self.at + BLOCK as u64 + self.copied))?;
        self.archive.written += self.copied;
        self.archive.end_blob(descriptor)?;
        Ok(self.archive)
    }
}
