//! Whether a directory can hold a store, asked before anything is made in it.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::statfs::{self, FsType, Statfs};
use nix::unistd::AccessFlags;

use crate::sys;

/// What stands against a store in a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("{} is not writable ({})", path.display(), errno.desc())]
    NotWritable { path: PathBuf, errno: Errno },
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Upper directories of an overlay cannot be here (the kernel answers EINVAL at the latest).
    #[error("{} is on {kind}, which cannot hold the layers of an overlay mount", path.display())]
    NoOverlay { path: PathBuf, kind: String },
    #[error("{} is on {kind} without user extended attributes, which overlay mounts need (Linux 6.6 has them on tmpfs)", path.display())]
    NoAttributes { path: PathBuf, kind: String },
}

impl Unfit {
    /// Whether only overlay mounts are impossible: a build without namespaces can use the place.
    pub(crate) fn is_about_overlay(&self) -> bool {
        matches!(self, Self::NoOverlay { .. } | Self::NoAttributes { .. })
    }
}

/// A place to which nothing is known to object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It holds overlay layers.
    Known,
    /// Only [`try_overlay`] can tell.
    Untried,
}

/// `XFS_SUPER_MAGIC`, which nix has not for musl.
const XFS: FsType = FsType(0x5846_5342);

/// File systems that hold overlay layers, attributes included, in every kernel that rbuild supports.
const GOOD: [FsType; 3] = [statfs::EXT4_SUPER_MAGIC, XFS, statfs::BTRFS_SUPER_MAGIC];

/// File systems of which the kernel never takes an upper directory: overlay itself, and network file
/// systems without whiteouts.
const BAD: [FsType; 3] = [
    statfs::OVERLAYFS_SUPER_MAGIC,
    statfs::NFS_SUPER_MAGIC,
    statfs::SMB_SUPER_MAGIC,
];

/// Looks at `root`, or where it would be made, and changes nothing there; attributes are tried out in a
/// directory that is removed again. Costs a handful of system calls on an ordinary disk.
pub(crate) fn examine(root: &Path) -> Result<Fit, Unfit> {
    let path = nearest_existing(root)?;
    nix::unistd::faccessat(
        sys::mount::working_directory(),
        path,
        AccessFlags::W_OK | AccessFlags::X_OK,
        AtFlags::AT_EACCESS,
    )
    .map_err(not_writable(path))?;
    let statfs = statfs::statfs(path).map_err(not_writable(path))?;
    let kind = statfs.filesystem_type();
    if GOOD.contains(&kind) {
        return Ok(Fit::Known);
    }
    if BAD.contains(&kind) {
        return Err(Unfit::NoOverlay {
            path: path.to_owned(),
            kind: kind_name(&statfs),
        });
    }
    let trial = Trial::begin(path)?;
    let stored = sys::xattr::set_at(
        trial.parent.as_fd(),
        trial.name(),
        OsStr::new("user.rbuild.probe"),
        b"1",
    );
    match stored {
        Err(error) if error.errno == Errno::EOPNOTSUPP => Err(Unfit::NoAttributes {
            path: path.to_owned(),
            kind: kind_name(&statfs),
        }),
        // tmpfs has whiteouts and file types in directories; attributes are all that is newer.
        _ if kind == statfs::TMPFS_MAGIC => Ok(Fit::Known),
        _ => Ok(Fit::Untried),
    }
}

/// Mounts an overlay with its upper directory where `root` is or would be made. It is attached nowhere
/// and removed again. Must be called inside a user namespace, or as root.
pub(crate) fn try_overlay(root: &Path) -> Result<(), Unfit> {
    let path = nearest_existing(root)?;
    let trial = Trial::begin(path)?;
    let [lower, upper, work] =
        ["lower", "upper", "work"].map(|name| trial.directory.path().join(name));
    for directory in [&lower, &upper, &work] {
        std::fs::create_dir(directory).map_err(|error| Unfit::NotWritable {
            path: path.to_owned(),
            errno: errno_of(&error),
        })?;
    }
    match sys::mount::overlay(&[lower], Some(&upper), Some(&work)) {
        Ok(mount) => {
            drop(mount);
            Ok(())
        }
        Err(_) => Err(Unfit::NoOverlay {
            path: path.to_owned(),
            kind: statfs::statfs(path)
                .map_or_else(|_| "a file system".to_owned(), |it| kind_name(&it)),
        }),
    }
}

/// The name of the file system at `root`, or where it would be made, for people.
pub(crate) fn kind_at(root: &Path) -> Option<String> {
    let statfs = statfs::statfs(nearest_existing(root).ok()?).ok()?;
    Some(kind_name(&statfs))
}

/// `root`, or the closest directory above it that exists; `/` where nothing does.
pub(crate) fn existing_above(root: &Path) -> &Path {
    nearest_existing(root).unwrap_or(Path::new("/"))
}

/// `root`, or the closest directory above it that exists.
fn nearest_existing(root: &Path) -> Result<&Path, Unfit> {
    for path in root.ancestors() {
        // What a relative name of one component has above it.
        let path = if path == Path::new("") {
            Path::new(".")
        } else {
            path
        };
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(path),
            Ok(_) => return Err(Unfit::NotADirectory(path.to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(not_writable(path)(errno_of(&error))),
        }
    }
    Err(Unfit::NotADirectory(root.to_owned()))
}

fn not_writable(path: &Path) -> impl Fn(Errno) -> Unfit {
    move |errno| Unfit::NotWritable {
        path: path.to_owned(),
        errno,
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn kind_name(statfs: &Statfs) -> String {
    let kind = statfs.filesystem_type();
    let known = [
        (statfs::EXT4_SUPER_MAGIC, "ext4"),
        (XFS, "xfs"),
        (statfs::BTRFS_SUPER_MAGIC, "btrfs"),
        (statfs::TMPFS_MAGIC, "tmpfs"),
        (statfs::OVERLAYFS_SUPER_MAGIC, "overlayfs"),
        (statfs::NFS_SUPER_MAGIC, "NFS"),
        (statfs::SMB_SUPER_MAGIC, "SMB"),
        (statfs::FUSE_SUPER_MAGIC, "FUSE"),
        (statfs::PROC_SUPER_MAGIC, "proc"),
    ];
    known
        .into_iter()
        .find(|(magic, _)| *magic == kind)
        .map_or_else(
            || format!("a file system of type {:#x}", kind.0),
            |(_, name)| name.to_owned(),
        )
}

/// A directory to try things in, removed with the value.
struct Trial {
    parent: OwnedFd,
    directory: tempfile::TempDir,
}

impl Trial {
    fn begin(parent: &Path) -> Result<Self, Unfit> {
        let directory = tempfile::Builder::new()
            .prefix(".rbuild-probe-")
            .tempdir_in(parent)
            .map_err(|error| not_writable(parent)(errno_of(&error)))?;
        let parent =
            sys::fs::open_directory(parent).map_err(|error| not_writable(parent)(error.errno))?;
        Ok(Self { parent, directory })
    }

    fn name(&self) -> &OsStr {
        self.directory
            .path()
            .file_name()
            .expect("a directory in another has a name")
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // The kernel makes a directory of mode 0 in an overlay's work directory.
        drop(sys::remove::remove_tree_at(&self.parent, self.name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_does_not_exist_yet_is_judged_by_what_is_above_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b/c");
        assert!(examine(&root).is_ok());
        std::fs::write(directory.path().join("a"), "").unwrap();
        assert!(matches!(
            examine(&root),
            Err(Unfit::NotADirectory(_) | Unfit::NotWritable { .. })
        ));
    }

    #[test]
    fn a_relative_name_is_below_the_working_directory() {
        assert_eq!(nearest_existing(Path::new("not-there")), Ok(Path::new(".")));
        assert_eq!(nearest_existing(Path::new("not/there")), Ok(Path::new(".")));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_unfit_and_not_because_of_the_overlay() {
        let unfit = examine(Path::new("/proc/rbuild/store")).unwrap_err();
        assert!(!unfit.is_about_overlay(), "{unfit}");
    }

    #[test]
    fn looking_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        drop(examine(directory.path()));
        drop(try_overlay(directory.path()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
