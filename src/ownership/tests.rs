use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use nix::sys::stat::{Mode, SFlag, makedev};

use super::record::{Entry, FileId};
use super::*;

/// A layer being made.
struct Layer {
    directory: tempfile::TempDir,
    ownership: Ownership,
}

impl Layer {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let diff = directory.path().join("diff");
        fs::create_dir(&diff).unwrap();
        let ownership = Ownership::Recorded(Table::default()).of_layer(&diff);
        Self {
            directory,
            ownership,
        }
    }

    fn diff(&self) -> PathBuf {
        self.directory.path().join("diff")
    }

    fn table(&self) -> PathBuf {
        self.directory.path().join(TABLE)
    }

    fn set(&self, name: &str, (uid, gid): (u32, u32)) {
        let dir = sys::fs::open_directory(&self.diff()).unwrap();
        self.ownership
            .set_at(&dir, name.as_ref(), uid, gid)
            .unwrap();
    }

    fn stat(&self, name: &str) -> FileStat {
        let owners = Owners::new(&self.ownership, &[self.diff()]);
        let dir = sys::fs::open_directory(&self.diff()).unwrap();
        let mut stat = sys::fs::stat_at(&dir, name.as_ref()).unwrap();
        owners.of(&dir, name.as_ref(), &mut stat).unwrap();
        stat
    }

    fn owner(&self, name: &str) -> (u32, u32) {
        let stat = self.stat(name);
        (stat.st_uid, stat.st_gid)
    }
}

fn pipe(path: &Path) {
    nix::sys::stat::mknod(path, SFlag::S_IFIFO, Mode::S_IRWXU, 0).unwrap();
}

#[test]
fn every_kind_of_file_has_the_owner_that_it_got_last() {
    let layer = Layer::new();
    fs::write(layer.diff().join("file"), "").unwrap();
    fs::create_dir(layer.diff().join("directory")).unwrap();
    symlink("file", layer.diff().join("link")).unwrap();
    pipe(&layer.diff().join("pipe"));
    drop(std::os::unix::net::UnixListener::bind(
        layer.diff().join("socket"),
    ));
    for name in ["file", "directory", "link", "pipe", "socket"] {
        assert_eq!(layer.owner(name), (0, 0), "{name}");
        for owner in [(1, 2), (u32::MAX - 1, 7), (0, 0), (0, 9)] {
            layer.set(name, owner);
            assert_eq!(layer.owner(name), owner, "{name}");
        }
    }
    // The link has its own, and an open file gets that of its name.
    layer.set("link", (5, 5));
    assert_eq!(layer.owner("file"), (0, 9));
    let open = fs::File::open(layer.diff().join("file")).unwrap();
    layer.ownership.set(&open, 3, 4).unwrap();
    assert_eq!(layer.owner("file"), (3, 4));
    layer.ownership.set(&open, 0, 0).unwrap();
    let record = sys::xattr::get_at(&open, OsStr::new(""), OsStr::new(ATTRIBUTE)).unwrap();
    assert_eq!(record, None, "no record says the same as 0:0");
}

#[test]
fn a_layer_without_links_needs_no_table() {
    let layer = Layer::new();
    fs::write(layer.diff().join("file"), "").unwrap();
    layer.set("file", (1, 1));
    assert!(!layer.table().exists());
}

#[test]
fn a_device_stays_one_when_its_owner_changes_and_is_none_with_content() {
    let device = Device {
        is_block: true,
        major: 8,
        minor: 1,
    };
    for is_mapped in [false, true] {
        let mut layer = Layer::new();
        if is_mapped {
            layer.ownership = Ownership::Mapped;
        }
        let own = (
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        );
        let file = fs::File::create(layer.diff().join("disk")).unwrap();
        layer
            .ownership
            .set_device(&file, device, own.0, own.1)
            .unwrap();
        layer.set("disk", own);
        let stat = layer.stat("disk");
        assert_eq!(Kind::of(&stat), Kind::BlockDevice);
        assert_eq!(stat.st_rdev, makedev(8, 1));
        assert_eq!((stat.st_uid, stat.st_gid), own);
        (&file).write_all(b"x").unwrap();
        assert_eq!(Kind::of(&layer.stat("disk")), Kind::Regular);
    }
}

#[test]
fn a_record_of_a_device_that_cannot_be_makes_none() {
    let layer = Layer::new();
    for (index, (is_block, major, minor)) in [
        (false, 0, 0),
        (false, 4096, 0),
        (true, 1, 1 << 20),
        (true, u32::MAX, u32::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("d{index}");
        let file = fs::File::create(layer.diff().join(&name)).unwrap();
        let device = Device {
            is_block,
            major,
            minor,
        };
        layer.ownership.set_device(&file, device, 0, 0).unwrap();
        assert_eq!(Kind::of(&layer.stat(&name)), Kind::Regular, "{device:?}");
    }
}

#[test]
fn an_inode_that_is_used_again_has_no_owner_from_before() {
    let layer = Layer::new();
    let path = layer.diff().join("link");
    symlink("a", &path).unwrap();
    layer.set("link", (7, 7));
    let dir = sys::fs::open_directory(&layer.diff()).unwrap();
    let birth = sys::statx::birth_at(&dir, "link".as_ref()).unwrap();
    if birth.time == (0, 0) {
        return;
    }
    let entry = |nanoseconds| Entry {
        file: FileId {
            inode: birth.inode,
            born: (birth.time.0, nanoseconds),
        },
        uid: 9,
        gid: 9,
    };
    fs::write(layer.table(), entry(birth.time.1 ^ 1).encode()).unwrap();
    assert_eq!(layer.owner("link"), (0, 0));
    fs::write(layer.table(), entry(birth.time.1).encode()).unwrap();
    assert_eq!(layer.owner("link"), (9, 9));
}

#[test]
fn a_table_that_was_cut_short_has_what_is_whole() {
    let layer = Layer::new();
    for name in ["one", "two"] {
        symlink("a", layer.diff().join(name)).unwrap();
        layer.set(name, (7, 8));
    }
    let table = fs::File::options().write(true).open(layer.table()).unwrap();
    table.set_len(table.metadata().unwrap().len() - 1).unwrap();
    assert_eq!((layer.owner("one"), layer.owner("two")), ((7, 8), (0, 0)));
    fs::write(layer.table(), b"\xff").unwrap();
    assert_eq!(layer.owner("one"), (0, 0));
}

#[test]
fn a_table_that_cannot_be_read_is_an_error() {
    let layer = Layer::new();
    symlink("a", layer.diff().join("link")).unwrap();
    fs::create_dir(layer.table()).unwrap();
    let dir = sys::fs::open_directory(&layer.diff()).unwrap();
    let mut stat = sys::fs::stat_at(&dir, "link".as_ref()).unwrap();
    let owners = Owners::new(&layer.ownership, &[layer.diff()]);
    assert!(matches!(
        owners.of(&dir, "link".as_ref(), &mut stat),
        Err(Error::Table { .. })
    ));
    assert!(matches!(
        layer.ownership.set_at(&dir, "link".as_ref(), 1, 1),
        Err(Error::Table { .. })
    ));
}

#[test]
fn what_has_no_room_for_the_attribute_is_in_the_table() {
    let layer = Layer::new();
    let dir = sys::fs::open_directory(&layer.diff()).unwrap();
    fs::write(layer.diff().join("file"), "").unwrap();
    let fill = |index: usize, length| {
        let attribute = format!("user.fill{index}");
        sys::xattr::set_at(
            &dir,
            "file".as_ref(),
            attribute.as_ref(),
            &vec![b'x'; length],
        )
        .is_ok()
    };
    let mut count = 0;
    for length in [2048, 512, 64, 8, 1] {
        while count < 64 && fill(count, length) {
            count += 1;
        }
    }
    if count == 64 {
        return; // A file system that keeps more than a block of attributes.
    }
    for owner in [(1, 2), (3, 4), (0, 0)] {
        layer.set("file", owner);
        assert_eq!(layer.owner("file"), owner);
        assert!(layer.table().exists());
    }
    layer.set("file", (5, 6));
    for index in 0..count {
        let attribute = format!("user.fill{index}");
        sys::xattr::remove_at(&dir, "file".as_ref(), attribute.as_ref()).unwrap();
    }
    assert_eq!(layer.owner("file"), (5, 6));
    for owner in [(7, 8), (0, 0)] {
        layer.set("file", owner);
        assert_eq!(layer.owner("file"), owner, "with the attribute again");
    }
}

#[test]
fn several_layers_are_asked_about_a_merged_view() {
    let (lower, upper) = (Layer::new(), Layer::new());
    for (layer, owner) in [(&lower, (1, 1)), (&upper, (2, 2))] {
        symlink("a", layer.diff().join("link")).unwrap();
        layer.set("link", owner);
    }
    let owners = Owners::new(&upper.ownership, &[upper.diff(), lower.diff()]);
    for (layer, owner) in [(&lower, (1, 1)), (&upper, (2, 2))] {
        let dir = sys::fs::open_directory(&layer.diff()).unwrap();
        let mut stat = sys::fs::stat_at(&dir, "link".as_ref()).unwrap();
        owners.of(&dir, "link".as_ref(), &mut stat).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid), owner);
    }
}
