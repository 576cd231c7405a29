//! What a command in a chroot finds where a sandbox would have mounts: files and directories that are
//! put into the tree for the step and taken out again, with what was there before put back.
//!
//! What has no stand-in: `/proc` of the command's own processes (`/proc/self/exe`, `/proc/self/fd` and
//! so `/dev/stdin`, `/dev/stdout`, `/dev/fd`), `/sys`, pseudo terminals, and write protection. The tree
//! is reached by descriptors that were opened before the command ran, never through a link it made.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, makedev};

use super::spec::{DEVICES, Mount, Spec};
use crate::sys::{self, fs};

/// Files of the host's /proc that tell of the machine and not of its processes.
const PROC_FILES: [&str; 15] = [
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "uptime",
    "version",
    "sys/fs/file-max",
    "sys/kernel/cap_last_cap",
    "sys/kernel/ngroups_max",
    "sys/kernel/osrelease",
    "sys/kernel/ostype",
    "sys/kernel/pid_max",
    "sys/kernel/random/boot_id",
    "sys/vm/overcommit_memory",
];

const MOUNTS: &[u8] = b"rootfs / rootfs rw 0 0\n";

/// The stand-ins in one tree. Dropping it takes them out, whatever fails on the way.
pub(super) struct StandIns {
    tree: PathBuf,
    root: OwnedFd,
    /// Where what was there waits, out of the command's reach.
    aside: OwnedFd,
    placed: Vec<Placed>,
    made: Vec<Made>,
    /// By device and inode.
    touched: BTreeMap<(u64, u64), Touched>,
}

/// One stand-in.
struct Placed {
    directory: OwnedFd,
    name: OsString,
    /// From the root of the tree.
    path: PathBuf,
    /// The name in `aside` of what was there.
    aside: Option<OsString>,
    /// Where it was moved from and has to go again, and its inode.
    home: Option<(PathBuf, u64)>,
}

/// A directory on the way to a stand-in that was missing.
struct Made {
    directory: OwnedFd,
    name: OsString,
    inode: u64,
}

/// A directory that a stand-in changed, with its modification times before and after that.
struct Touched {
    directory: OwnedFd,
    before: (i64, i64),
    after: (i64, i64),
}

impl StandIns {
    /// Puts what `spec` asks for into its tree; `None` for a spec without one.
    pub(super) fn put(spec: &Spec) -> sys::Result<Option<Self>> {
        let Some(tree) = &spec.tree else {
            return Ok(None);
        };
        let tree = PathBuf::from(tree);
        let mut stand_ins = Self {
            root: fs::open_directory(&tree)?,
            aside: fs::open_directory(Path::new(&spec.work))?,
            tree,
            placed: Vec::new(),
            made: Vec::new(),
            touched: BTreeMap::new(),
        };
        stand_ins.put_proc()?;
        stand_ins.put_dev()?;
        stand_ins.directory("/sys", 0o555)?;
        stand_ins.file(
            Path::new("/etc/resolv.conf"),
            &spec.resolv_conf,
            0o644,
            (0, 0),
        )?;
        stand_ins.file(Path::new("/etc/hosts"), &spec.hosts, 0o644, (0, 0))?;
        for mount in &spec.mounts {
            stand_ins.put_mount(mount)?;
        }
        stand_ins.settle()?;
        Ok(Some(stand_ins))
    }

    /// Takes everything out again. The paths, from the root of the tree, of what was put back.
    pub(super) fn take_out(mut self) -> sys::Result<Vec<PathBuf>> {
        self.restore()
    }

    fn put_mount(&mut self, mount: &Mount) -> sys::Result<()> {
        match mount {
            Mount::File {
                contents,
                target,
                mode,
                uid,
                gid,
            } => self.file(Path::new(target), contents, *mode, (*uid, *gid)),
            Mount::Tmpfs { target, mode, .. } => self.directory(target, *mode).map(drop),
            Mount::Bind { source, target, .. } => self.bind(Path::new(source), Path::new(target)),
            Mount::Tree { target, .. } => {
                Err(sys::Error::on("mount", Path::new(target), Errno::ENOTSUP))
            }
        }
    }

    /// Moves a directory or file in for the time of the step; a socket gets another name there.
    fn bind(&mut self, source: &Path, target: &Path) -> sys::Result<()> {
        let (Some(parent), Some(name)) = (source.parent(), source.file_name()) else {
            return Err(sys::Error::on("rename", source, Errno::EINVAL));
        };
        let parent = fs::open_directory(parent)?;
        let stat = fs::stat_at(&parent, name)?;
        let (directory, into) = self.make_room(target)?;
        if fs::Kind::of(&stat) == fs::Kind::Socket {
            return fs::hard_link_at(&parent, name, &directory, &into);
        }
        fs::rename_at(&parent, name, &directory, &into)?;
        let placed = self.placed.last_mut().expect("room was made for it");
        placed.home = Some((source.to_owned(), stat.st_ino));
        Ok(())
    }

    fn put_proc(&mut self) -> sys::Result<()> {
        let proc = self.directory("/proc", 0o555)?;
        for path in PROC_FILES {
            if let Ok(contents) = std::fs::read(Path::new("/proc").join(path)) {
                write_below(&proc, Path::new(path), &contents)?;
            }
        }
        write_below(&proc, Path::new("self/mounts"), MOUNTS)?;
        fs::symlink_at(OsStr::new("self/mounts"), &proc, OsStr::new("mounts"))
    }

    /// Where the host makes no devices, as in a user namespace, /dev/null is a file that can be
    /// written to and reads as empty, and the others are missing.
    fn put_dev(&mut self) -> sys::Result<()> {
        let dev = self.directory("/dev", 0o755)?;
        for (name, major, minor) in DEVICES {
            let name = OsStr::new(name);
            let device = makedev(major, minor);
            match fs::make_node_at(&dev, name, SFlag::S_IFCHR, 0o666, device) {
                Err(error) if error.errno == Errno::EPERM && name == "null" => {
                    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
                    fs::open_at(&dev, name, flags, 0o666)?;
                }
                Err(error) if error.errno == Errno::EPERM => continue,
                other => other?,
            }
            fs::chmod_at(&dev, name, 0o666)?;
        }
        // They lead nowhere: what is written to them must not vanish in a file.
        for (name, text) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            fs::symlink_at(OsStr::new(text), &dev, OsStr::new(name))?;
        }
        for (name, mode) in [("shm", 0o1777), ("pts", 0o755), ("mqueue", 0o1777)] {
            fs::make_directory_at(&dev, OsStr::new(name), 0o700)?;
            fs::chmod_at(&dev, OsStr::new(name), mode)?;
        }
        Ok(())
    }

    fn directory(&mut self, target: impl AsRef<Path>, mode: u32) -> sys::Result<OwnedFd> {
        let (directory, name) = self.make_room(target.as_ref())?;
        fs::make_directory_at(&directory, &name, 0o700)?;
        let made = fs::open_directory_at(&directory, &name)?;
        fs::chmod(&made, mode)?;
        Ok(made)
    }

    fn file(
        &mut self,
        target: &Path,
        contents: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> sys::Result<()> {
        let (directory, name) = self.make_room(target)?;
        let made = write(&directory, &name, contents)?;
        if (uid, gid) != (0, 0) {
            fs::chown(&made, uid, gid)?;
        }
        // After the owner, which takes the set-id bits away.
        fs::chmod(&made, mode)
    }

    /// Moves what is at `target` away. Links on the way are followed inside the tree; at the end, they
    /// are moved themselves.
    fn make_room(&mut self, target: &Path) -> sys::Result<(OwnedFd, OsString)> {
        let invalid = || sys::Error::on("openat2", target, Errno::EINVAL);
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(invalid());
        };
        let directory = self.open_or_make(parent)?;
        self.touch(&directory)?;
        let number = self.placed.len();
        let there = fs::try_stat_at(&directory, name)?;
        let aside = match there {
            Some(_) => {
                let aside = OsString::from(format!("aside-{number}"));
                fs::rename_at(&directory, name, &self.aside, &aside)?;
                Some(aside)
            }
            None => None,
        };
        let real = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
            .unwrap_or_default();
        self.placed.push(Placed {
            directory: same(&directory)?,
            name: name.to_owned(),
            path: real
                .strip_prefix(&self.tree)
                .unwrap_or(Path::new(""))
                .join(name),
            aside,
            home: None,
        });
        Ok((directory, name.to_owned()))
    }

    fn open_or_make(&mut self, path: &Path) -> sys::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut done = PathBuf::from("/");
        let mut directory = fs::open_in_root(&self.root, &done, flags, 0)?;
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            done.push(name);
            directory = match fs::open_in_root(&self.root, &done, flags, 0) {
                Err(error) if error.errno == Errno::ENOENT => {
                    self.touch(&directory)?;
                    fs::make_directory_at(&directory, name, 0o755)?;
                    let made = fs::open_directory_at(&directory, name)?;
                    fs::chmod(&made, 0o755)?;
                    self.made.push(Made {
                        directory,
                        name: name.to_owned(),
                        inode: fs::stat(&made)?.st_ino,
                    });
                    made
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    /// Remembers the times of a directory before its first change.
    fn touch(&mut self, directory: &OwnedFd) -> sys::Result<()> {
        let stat = fs::stat(directory)?;
        let time = (stat.st_mtime, stat.st_mtime_nsec);
        let key = (stat.st_dev, stat.st_ino);
        if let Entry::Vacant(entry) = self.touched.entry(key) {
            entry.insert(Touched {
                directory: same(directory)?,
                before: time,
                after: time,
            });
        }
        Ok(())
    }

    /// Notes the times as the command finds them, and waits until a change would show.
    fn settle(&mut self) -> sys::Result<()> {
        let mut newest = (0, 0);
        for touched in self.touched.values_mut() {
            touched.after = modified(&touched.directory)?;
            newest = newest.max(touched.after);
        }
        sys::clock::wait_until_past(&self.aside, OsStr::new("clock"), newest)
    }

    fn restore(&mut self) -> sys::Result<Vec<PathBuf>> {
        let mut restored = Vec::new();
        let mut result = Ok(());
        let mut keep = |done: sys::Result<()>| {
            if result.is_ok() {
                result = done;
            }
        };
        let touched: Vec<Touched> = std::mem::take(&mut self.touched).into_values().collect();
        let now: Vec<_> = touched
            .iter()
            .map(|touched| modified(&touched.directory).unwrap_or(touched.after))
            .collect();
        for placed in std::mem::take(&mut self.placed).into_iter().rev() {
            keep(self.take_away(&placed));
            match self.put_back(&placed) {
                Ok(true) => restored.push(placed.path),
                Ok(false) => {}
                Err(error) => keep(Err(error)),
            }
        }
        for made in std::mem::take(&mut self.made).into_iter().rev() {
            let there = fs::try_stat_at(&made.directory, &made.name);
            if let Ok(Some(stat)) = there
                && stat.st_ino == made.inode
            {
                // What the command put there keeps it.
                drop(fs::remove_directory_at(&made.directory, &made.name));
            }
        }
        for (touched, now) in touched.iter().zip(now) {
            let (seconds, nanoseconds) = if now == touched.after {
                touched.before
            } else {
                now
            };
            keep(fs::set_mtime(&touched.directory, seconds, nanoseconds));
        }
        result.map(|()| restored)
    }

    /// Moves a directory home, if it still is the one that came from there; removes anything else.
    fn take_away(&self, placed: &Placed) -> sys::Result<()> {
        if let Some((home, inode)) = &placed.home
            && let (Some(parent), Some(name)) = (home.parent(), home.file_name())
        {
            let parent = fs::open_directory(parent)?;
            let there = fs::try_stat_at(&placed.directory, &placed.name)?;
            if there.is_some_and(|stat| stat.st_ino == *inode) {
                return fs::rename_at(&placed.directory, &placed.name, &parent, name);
            }
            // The command moved or removed it: its next user starts with an empty one.
            drop(fs::make_directory_at(&parent, name, 0o755));
        }
        sys::remove::remove_tree_at(&placed.directory, &placed.name)
    }

    /// Whether something was put back. Where the directory is gone, so is what was in it.
    fn put_back(&self, placed: &Placed) -> sys::Result<bool> {
        let Some(aside) = &placed.aside else {
            return Ok(false);
        };
        match fs::rename_at(&self.aside, aside, &placed.directory, &placed.name) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == Errno::ENOENT => {
                sys::remove::remove_tree_at(&self.aside, aside)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        // A tree that this fails for is thrown away with its step.
        drop(self.restore());
    }
}

fn same(directory: &OwnedFd) -> sys::Result<OwnedFd> {
    fs::open_directory_at(directory.as_fd(), OsStr::new("."))
}

fn modified(directory: &OwnedFd) -> sys::Result<(i64, i64)> {
    let stat = fs::stat(directory)?;
    Ok((stat.st_mtime, stat.st_mtime_nsec))
}

fn write(directory: &OwnedFd, name: &OsStr, contents: &[u8]) -> sys::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = File::from(fs::open_at(directory, name, flags, 0o600)?);
    (&file).write_all(contents).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        sys::Error::on("write", name, errno)
    })?;
    Ok(file.into())
}

/// Writes a file 0444 and makes its directories.
fn write_below(root: &OwnedFd, path: &Path, contents: &[u8]) -> sys::Result<()> {
    let mut directory = same(root)?;
    for part in path.parent().unwrap_or(Path::new("")).components() {
        let name = part.as_os_str();
        match fs::make_directory_at(&directory, name, 0o755) {
            Err(error) if error.errno == Errno::EEXIST => {}
            other => other?,
        }
        directory = fs::open_directory_at(&directory, name)?;
    }
    let name = path.file_name().unwrap_or_default();
    fs::chmod(write(&directory, name, contents)?, 0o444)
}
