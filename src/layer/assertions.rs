//! What holds for every archive, however odd; the fuzz target asks it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::header::{BLOCK, RawHeader};
use super::{Decoder, Form, Limits, PackOptions, pack, unpack_as};
use crate::ownership::{Owners, Ownership, Table};
use crate::sys;

const LIMITS: Limits = Limits {
    entries: 200,
    file_bytes: 1 << 20,
    total_bytes: 4 << 20,
    directory_times: 100,
};

/// The first byte says how the rest is unpacked. Nothing outside of the root changes, what is unpacked
/// keeps the limits, and a layer that was taken packs, unpacks and packs to the same bytes.
pub(crate) fn layer_holds(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let form = match choice % 4 {
        0 | 1 => Form::Overlay,
        2 => Form::Plain,
        _ => Form::PlainUpper,
    };
    let tar = if choice & 8 == 0 {
        with_checksums(rest)
    } else {
        decompressed(rest)
    };
    let owner = (choice & 16 != 0).then_some((7, 8));
    let stand = Stand::new();
    let before = stand.outside();
    let unpacked = stand.unpack("one", &tar, form, owner);
    assert_eq!(
        stand.outside(),
        before,
        "the archive changed what is outside"
    );
    if unpacked && form == Form::Overlay {
        let first = stand.packed("one");
        assert!(
            stand.unpack("two", &first, form, None),
            "an own layer is refused"
        );
        assert!(first == stand.packed("two"), "a layer packs to two tars");
    }
    assert_eq!(stand.outside(), before, "packing changed what is outside");
}

/// Directories with layers, and beside them what no archive may touch.
struct Stand {
    directory: tempfile::TempDir,
}

/// What shows a change of a file: inode, mode, links, size, owner, time of the last change.
type Seen = (u64, u32, u64, u64, (u32, u32), (i64, i64));

impl Stand {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let directory = match tempfile::tempdir_in(memory) {
            Ok(directory) => directory,
            Err(_) => tempfile::tempdir().expect("a directory can be made"),
        };
        let outside = directory.path().join("outside");
        let made = fs::create_dir(&outside)
            .and_then(|()| fs::write(outside.join("file"), "untouched"))
            .and_then(|()| std::os::unix::fs::symlink("file", outside.join("link")));
        made.expect("files can be made");
        Self { directory }
    }

    /// Everything that is not in a layer's directory.
    fn outside(&self) -> BTreeMap<PathBuf, Seen> {
        let list = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).expect("the directory is there");
            entries.flatten().map(|entry| entry.path()).collect()
        };
        let mut paths = list(self.directory.path());
        paths.retain(|path| !path.ends_with("one") && !path.ends_with("two"));
        paths.extend(list(&self.directory.path().join("outside")));
        let seen = |path: PathBuf| {
            let found = fs::symlink_metadata(&path).expect("it was listed");
            let owner = (found.uid(), found.gid());
            let changed = (found.ctime(), found.ctime_nsec());
            let (mode, links) = (found.mode(), found.nlink());
            (
                path,
                (found.ino(), mode, links, found.size(), owner, changed),
            )
        };
        paths.into_iter().map(seen).collect()
    }

    fn diff(&self, layer: &str) -> PathBuf {
        self.directory.path().join(layer).join("diff")
    }

    fn unpack(&self, layer: &str, tar: &[u8], form: Form, owner: Option<(u32, u32)>) -> bool {
        let diff = self.diff(layer);
        fs::create_dir_all(&diff).expect("a directory can be made");
        let root = sys::fs::open_directory(&diff).expect("the directory is there");
        let ownership = Ownership::Recorded(Table::of(&diff));
        let mut input = tar;
        let result = unpack_as(&mut input, root.as_fd(), &ownership, form, owner, &LIMITS);
        let beside = fs::read_dir(self.directory.path().join(layer)).expect("it is there");
        for entry in beside.flatten() {
            assert!([OsStr::new("diff"), OsStr::new("owners")].contains(&&*entry.file_name()));
        }
        match &result {
            Ok(unpacked) => assert!(unpacked.entries <= LIMITS.entries),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        result.is_ok()
    }

    fn packed(&self, layer: &str) -> Vec<u8> {
        let diff = self.diff(layer);
        let root = sys::fs::open_directory(&diff).expect("the directory is there");
        let ownership = Ownership::Recorded(Table::default());
        let owners = Owners::new(&ownership, &[diff]);
        let mut tar = Vec::new();
        let options = PackOptions::default();
        let packed = pack(root.as_fd(), &[], &owners, &options, &mut tar);
        packed.expect("what was unpacked can be packed");
        tar
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        for layer in ["one", "two"] {
            let found = sys::fs::open_directory(self.directory.path());
            // A root that cannot be removed is left to the one who looks at the failure.
            drop(found.and_then(|dir| sys::remove::remove_tree_at(dir, OsStr::new(layer))));
        }
    }
}

/// The bytes with the checksum of each header put right, as far as headers follow one another: a
/// changed byte leads to what the header says, not to the checksum.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + BLOCK) {
        let block: &mut [u8; BLOCK] = block.try_into().expect("it is a block");
        if block.iter().any(|byte| *byte != 0) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let size = RawHeader::new(block).and_then(RawHeader::size).unwrap_or(0);
        let data = usize::try_from(size).unwrap_or(usize::MAX).div_ceil(BLOCK);
        at = at
            .saturating_add(BLOCK)
            .saturating_add(data.saturating_mul(BLOCK));
        if at >= usize::MAX - BLOCK {
            break;
        }
    }
    tar
}

/// What the bytes decompress to, as far as it is not too much.
fn decompressed(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    if let Ok(decoder) = Decoder::detect(bytes) {
        // What came before an error is as good as anything.
        drop(decoder.take(LIMITS.total_bytes).read_to_end(&mut tar));
    }
    tar
}
