//! The mount calls of Linux 5.2 and later, which work on descriptors (fsopen(2), open_tree(2),
//! move_mount(2), mount_setattr(2)), and pivot_root(2).
#![expect(unsafe_code, reason = "neither nix nor libc wraps these calls")]

mod overlay;

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::{Error, Result};
pub(crate) use overlay::overlay;

/// Restrictions of a mount (`MOUNT_ATTR_*`); they can be added to an inherited mount, not taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) read_only: bool,
    pub(crate) no_suid: bool,
    pub(crate) no_dev: bool,
    pub(crate) no_exec: bool,
}

impl Attributes {
    fn bits(self) -> u64 {
        let mut bits = 0;
        for (set, bit) in [
            (self.read_only, libc::MOUNT_ATTR_RDONLY),
            (self.no_suid, libc::MOUNT_ATTR_NOSUID),
            (self.no_dev, libc::MOUNT_ATTR_NODEV),
            (self.no_exec, libc::MOUNT_ATTR_NOEXEC),
        ] {
            if set {
                bits |= bit;
            }
        }
        bits
    }
}

/// A file system being configured (`fsopen(2)`).
#[derive(Debug)]
pub(crate) struct Context {
    fd: OwnedFd,
    kind: &'static CStr,
}

impl Context {
    pub(crate) fn open(kind: &'static CStr) -> Result<Self> {
        // SAFETY: `kind` is NUL-terminated and static; the call keeps no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
        let fd = owned(fd).map_err(|errno| Error::new("fsopen", kind.to_string_lossy(), errno))?;
        let context = Self { fd, kind };
        // The first word of a line of mount(8), which would be "none".
        context.set(c"source", OsStr::from_bytes(kind.to_bytes()))?;
        Ok(context)
    }

    /// Sets `key` to the text `value`. Unlike in an option string no character of it is special.
    pub(crate) fn set(&self, key: &CStr, value: &OsStr) -> Result<()> {
        let text = c_string("fsconfig", value)?;
        self.configure(libc::FSCONFIG_SET_STRING, key, Some(&text), value)
    }

    /// Sets the option `key`, which has no value.
    pub(crate) fn set_flag(&self, key: &CStr) -> Result<()> {
        self.configure(libc::FSCONFIG_SET_FLAG, key, None, OsStr::new(""))
    }

    /// Creates the file system and a detached mount of it, gone with the descriptor unless attached.
    pub(crate) fn mount(self, attributes: Attributes) -> Result<OwnedFd> {
        self.configure(
            libc::FSCONFIG_CMD_CREATE,
            c"",
            None,
            OsStr::from_bytes(self.kind.to_bytes()),
        )?;
        let bits = u32::try_from(attributes.bits()).expect("four low bits");
        // SAFETY: integers only; the descriptor is open as long as `self`.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.fd.as_raw_fd(),
                libc::FSMOUNT_CLOEXEC,
                bits,
            )
        };
        owned(fd).map_err(|errno| Error::new("fsmount", self.kind.to_string_lossy(), errno))
    }

    fn configure(
        &self,
        command: libc::c_uint,
        key: &CStr,
        value: Option<&CStr>,
        shown: &OsStr,
    ) -> Result<()> {
        let key_pointer = if key.is_empty() {
            std::ptr::null()
        } else {
            key.as_ptr()
        };
        let value_pointer = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both strings are NUL-terminated or null as the command wants, and outlive the call.
        let status = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                command,
                key_pointer,
                value_pointer,
                0,
            )
        };
        Errno::result(status).map_err(|errno| {
            let object = format!(
                "{} {}={}",
                self.kind.to_string_lossy(),
                key.to_string_lossy(),
                shown.display()
            );
            Error::new("fsconfig", object, errno)
        })?;
        Ok(())
    }
}

/// A detached copy of the mounts at `path`, with those below it.
pub(crate) fn clone_tree(dir: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open_tree(dir, path, libc::AT_RECURSIVE)
}

/// A detached copy of the one mount at `path`, which may be a file and is not followed if it is a link.
pub(crate) fn clone_mount(dir: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open_tree(dir, path, libc::AT_SYMLINK_NOFOLLOW)
}

/// A detached copy of the mounts at the open file or directory `fd` (which may be `O_PATH`), with those
/// below it. The mount that `fd` is on must be attached in the caller's mount namespace.
pub(crate) fn clone_open(fd: impl AsFd) -> Result<OwnedFd> {
    open_tree(fd, Path::new(""), libc::AT_RECURSIVE | libc::AT_EMPTY_PATH)
}

fn open_tree(dir: impl AsFd, path: &Path, flags: libc::c_int) -> Result<OwnedFd> {
    let text = c_string("open_tree", path.as_os_str())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flags.cast_unsigned();
    // SAFETY: `text` is NUL-terminated and outlives the call; the descriptor is borrowed for it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            dir.as_fd().as_raw_fd(),
            text.as_ptr(),
            flags,
        )
    };
    owned(fd).map_err(|errno| Error::on("open_tree", path, errno))
}

/// The working directory as the starting point of a path.
pub(crate) fn working_directory() -> BorrowedFd<'static> {
    nix::fcntl::AT_FDCWD
}

/// Attaches the detached `mount` on the file or directory `target`, or moves it there from where it is
/// attached in this namespace, with all that is mounted below it.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: the empty strings are static, the descriptors are borrowed for the call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    Errno::result(status).map_err(|errno| Error::new("move_mount", "", errno))?;
    Ok(())
}

/// Adds `attributes` to a mount and to all below it (`mount_setattr(2)`, Linux 5.12), and makes them private:
/// a clone of a mount otherwise goes on receiving what is mounted below the original.
pub(crate) fn restrict(mount: impl AsFd, attributes: Attributes) -> Result<()> {
    set_attributes(mount, attributes, libc::AT_RECURSIVE)
}

/// Adds `attributes` to this mount alone, and makes it private.
pub(crate) fn restrict_one(mount: impl AsFd, attributes: Attributes) -> Result<()> {
    set_attributes(mount, attributes, 0)
}

fn set_attributes(mount: impl AsFd, attributes: Attributes, flags: libc::c_int) -> Result<()> {
    let change = libc::mount_attr {
        attr_set: attributes.bits(),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is static; `change` is a whole mount_attr of the size passed and outlives the
    // call, which only reads it.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(status).map_err(|errno| Error::new("mount_setattr", "", errno))?;
    Ok(())
}

/// Which way mounts and unmounts travel between mount namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// What the parent namespace mounts later is seen, nothing goes back.
    Slave,
    /// Nothing travels.
    Private,
}

/// Sets the propagation of every mount of the namespace.
pub(crate) fn set_propagation(propagation: Propagation) -> Result<()> {
    let flag = match propagation {
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Private => MsFlags::MS_PRIVATE,
    };
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | flag,
        None::<&str>,
    )
    .map_err(|errno| Error::new("mount", "/", errno))
}

/// Keeps mounts and unmounts of this namespace in it, and as far as the kernel lets it those of others out.
/// Some kernels with a mend of CVE-2025-38498 answer EPERM to `MS_PRIVATE` on mounts that came from a more
/// privileged namespace. Those still receive: what is cloned from them must be [restricted](restrict), and
/// the rest left behind with [`pivot_to`].
pub(crate) fn isolate_namespace() -> Result<()> {
    set_propagation(Propagation::Slave)?;
    stop_receiving()
}

/// The second half of [`isolate_namespace`], for a namespace of which every mount is a slave.
pub(crate) fn stop_receiving() -> Result<()> {
    match set_propagation(Propagation::Private) {
        Err(error) if error.errno == Errno::EPERM => Ok(()),
        other => other,
    }
}

/// Makes the attached mount `root` the root and working directory of this process and of all others in
/// the mount namespace, and takes the old root and everything on and below it away.
pub(crate) fn pivot_to(root: impl AsFd) -> Result<()> {
    let failed = |call| move |errno| Error::new(call, "", errno);
    nix::unistd::fchdir(&root).map_err(failed("fchdir"))?;
    // pivot_root(2), "pivot_root(".", ".")": the old root ends up stacked on the new one.
    nix::unistd::pivot_root(".", ".").map_err(failed("pivot_root"))?;
    nix::unistd::chdir("/").map_err(failed("chdir"))?;
    let identity = |stat: nix::sys::stat::FileStat| (stat.st_dev, stat.st_ino);
    let new = identity(super::fs::stat(&root)?);
    // Lookups of `/..` end on top of that stack, so a mount left on it would be a way out. What had been
    // mounted on the old root is there too: one unmount is not always enough.
    loop {
        let top = nix::sys::stat::stat("/..").map_err(failed("stat"))?;
        if identity(top) == new {
            return Ok(());
        }
        nix::mount::umount2("/..", MntFlags::MNT_DETACH).map_err(failed("umount2"))?;
    }
}

fn c_string(call: &'static str, text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Error::on(call, text, Errno::EINVAL))
}

/// The descriptor in the return value of a raw system call that creates one.
fn owned(value: libc::c_long) -> nix::Result<OwnedFd> {
    let value = Errno::result(value)?;
    let raw = RawFd::try_from(value).expect("descriptors are ints");
    // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
