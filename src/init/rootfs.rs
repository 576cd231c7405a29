//! The root file system of a sandbox: the overlay of the layers and everything mounted into it.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::Notes;
use super::failure::At as _;
use super::ground::Laid;
use super::targets::{Shape, Targets};
use crate::ownership::record::{ATTRIBUTE, Record};
use crate::sandbox::spec::{Failure, Mount, Spec, Step, Writable};
use crate::sys::mount::{Attributes, Context};
use crate::sys::{self, fs, mount, xattr};

/// Attributes of everything from outside that is mounted into the image.
const FOREIGN: Attributes = Attributes {
    read_only: false,
    no_suid: true,
    no_dev: true,
    no_exec: false,
};

/// Mounts it all beside what is laid already, and returns the root of the sandbox.
pub(super) fn build(spec: &Spec, laid: Laid, notes: &mut Notes) -> Result<OwnedFd, Failure> {
    let Laid {
        scratch,
        proc,
        sys,
        dev,
    } = laid;
    mount::stop_receiving().at(Step::Rootfs)?;
    let upper = fs::open_directory(Path::new(&spec.upper)).at(Step::Rootfs)?;
    let root = overlay(spec, &scratch).at(Step::Rootfs)?;

    let mut targets = Targets::new(&root, upper).at(Step::Rootfs)?;
    for (name, mounted, step) in [
        ("proc", proc, Step::Proc),
        ("sys", sys, Step::Sys),
        ("dev", dev, Step::Dev),
    ] {
        let target = targets.open_top(name).at(step)?;
        mount::attach(mounted, target).at(step)?;
    }

    let mut builder = Builder {
        targets,
        scratch,
        made: 0,
        is_recorded: spec.emulation.is_some(),
    };
    for (target, contents) in [
        ("/etc/resolv.conf", &spec.resolv_conf),
        ("/etc/hosts", &spec.hosts),
    ] {
        builder
            .mount_file(contents, Path::new(target), 0o644, (0, 0))
            .at(Step::Generated)?;
    }
    for declared in &spec.mounts {
        builder.mount(declared).at(Step::Mounts)?;
    }
    (notes.created, notes.touched) = builder.targets.finish().at(Step::Mounts)?;
    if spec.read_only {
        let read_only = Attributes {
            read_only: true,
            ..Attributes::default()
        };
        mount::restrict_one(&root, read_only).at(Step::Rootfs)?;
    }
    Ok(root)
}

fn overlay(spec: &Spec, scratch: &OwnedFd) -> sys::Result<OwnedFd> {
    let lowers: Vec<PathBuf> = spec.lowers.iter().map(PathBuf::from).collect();
    let upper = Path::new(&spec.upper);
    let work = Path::new(&spec.work);
    let root = mount::overlay(&lowers, Some(upper), Some(work))?;
    let name = OsStr::new("root");
    fs::make_directory_at(scratch, name, 0o755)?;
    mount::attach(&root, fs::open_directory_at(scratch, name)?)?;
    Ok(root)
}

struct Builder {
    targets: Targets,
    scratch: OwnedFd,
    /// Entries of `scratch` so far, for their names.
    made: usize,
    /// Owners are records, see [`crate::ownership::record`].
    is_recorded: bool,
}

impl Builder {
    fn mount(&mut self, declared: &Mount) -> sys::Result<()> {
        match declared {
            Mount::Bind {
                source,
                target,
                read_only,
            } => {
                let tree = mount::clone_tree(mount::working_directory(), Path::new(source))?;
                self.bind(&tree, Path::new(target), *read_only)
            }
            Mount::Tree {
                lowers,
                writable,
                source,
                target,
            } => {
                let tree = self.tree(lowers, writable.as_ref(), Path::new(source))?;
                self.bind(&tree, Path::new(target), writable.is_none())
            }
            Mount::Tmpfs {
                target,
                size,
                mode,
                no_exec,
            } => {
                let context = Context::open(c"tmpfs")?;
                context.set(c"mode", OsStr::new(&format!("{mode:o}")))?;
                if let Some(size) = size {
                    context.set(c"size", OsStr::new(&size.to_string()))?;
                }
                let attributes = Attributes {
                    no_exec: *no_exec,
                    ..FOREIGN
                };
                self.attach(
                    &context.mount(attributes)?,
                    Path::new(target),
                    Shape::Directory,
                )
            }
            Mount::File {
                contents,
                target,
                mode,
                uid,
                gid,
            } => self.mount_file(contents, Path::new(target), *mode, (*uid, *gid)),
        }
    }

    /// The place `source` in a tree of layers as a detached mount.
    fn tree(
        &mut self,
        lowers: &[OsString],
        writable: Option<&Writable>,
        source: &Path,
    ) -> sys::Result<OwnedFd> {
        let lowers: Vec<PathBuf> = lowers.iter().map(PathBuf::from).collect();
        let root = if let ([only], None) = (&lowers[..], writable) {
            fs::open_directory(only)?
        } else {
            let upper = writable.map(|writable| Path::new(&writable.upper));
            let work = writable.map(|writable| Path::new(&writable.work));
            let root = mount::overlay(&lowers, upper, work)?;
            // Only what is attached can be cloned; after the pivot nothing but the clone is left.
            let name = self.name("tree");
            fs::make_directory_at(&self.scratch, &name, 0o700)?;
            mount::attach(&root, fs::open_directory_at(&self.scratch, &name)?)?;
            root
        };
        mount::clone_open(fs::open_in_root(&root, source, OFlag::O_PATH, 0)?)
    }

    fn name(&mut self, kind: &str) -> OsString {
        self.made += 1;
        OsString::from(format!("{kind}{}", self.made))
    }

    fn bind(&mut self, tree: &OwnedFd, target: &Path, read_only: bool) -> sys::Result<()> {
        mount::restrict(
            tree,
            Attributes {
                read_only,
                ..FOREIGN
            },
        )?;
        let shape = match fs::Kind::of(&fs::stat(tree)?) {
            fs::Kind::Directory => Shape::Directory,
            _ => Shape::File,
        };
        self.attach(tree, target, shape)
    }

    /// Binds a read-only file with these contents, kept in memory.
    fn mount_file(
        &mut self,
        contents: &[u8],
        target: &Path,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> sys::Result<()> {
        let name = self.name("file");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = fs::open_at(&self.scratch, &name, flags, 0o600)?;
        if (uid, gid) != (0, 0) {
            self.own(&file, &name, uid, gid)?;
        }
        // After the owner, which takes the set-id bits away.
        fs::chmod(&file, mode)?;
        std::fs::File::from(file)
            .write_all(contents)
            .map_err(|error| {
                let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                sys::Error::on("write", target, errno)
            })?;
        let tree = mount::clone_mount(&self.scratch, Path::new(&name))?;
        mount::restrict(
            &tree,
            Attributes {
                read_only: true,
                ..FOREIGN
            },
        )?;
        self.attach(&tree, target, Shape::File)
    }

    /// Gives `file`, which is `name` in `scratch`, its owner.
    fn own(&self, file: &OwnedFd, name: &OsStr, uid: u32, gid: u32) -> sys::Result<()> {
        if !self.is_recorded {
            return fs::chown(file, uid, gid);
        }
        let record = Record::owned_by(uid, gid).encode();
        match xattr::set_at(&self.scratch, name, OsStr::new(ATTRIBUTE), &record) {
            // tmpfs before Linux 6.6: the file is shown as root's.
            Err(error) if error.errno == Errno::EOPNOTSUPP => Ok(()),
            other => other,
        }
    }

    fn attach(&mut self, tree: &OwnedFd, target: &Path, shape: Shape) -> sys::Result<()> {
        let opened = self.targets.open(target, shape)?;
        mount::attach(tree, opened)
            .map_err(|error| sys::Error::on("move_mount", target, error.errno))
    }
}
