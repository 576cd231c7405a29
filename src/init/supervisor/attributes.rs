//! Extended attributes: rbuild's own are neither seen nor set by programs.

use nix::errno::Errno;

use super::caller::{Caller, Lookup, Target};
use super::{Reply, Supervisor};
use crate::ownership::record::RESERVED;
use crate::sandbox::emulation::calls::Subject;
use crate::sys::xattr;

/// XATTR_NAME_MAX of linux/limits.h, with the zero byte.
const MAX_NAME: usize = 256;

impl Supervisor {
    /// The name at argument 1; empty where the kernel says what is wrong with it.
    fn name(caller: &Caller<'_>) -> nix::Result<Vec<u8>> {
        match caller.string(caller.address(1), MAX_NAME) {
            Err(Errno::ENAMETOOLONG | Errno::EFAULT) => Ok(Vec::new()),
            other => other,
        }
    }

    pub(super) fn get_attribute(caller: &Caller<'_>) -> nix::Result<Reply> {
        if Self::name(caller)?.starts_with(RESERVED.as_bytes()) {
            return Err(Errno::ENODATA);
        }
        Ok(Reply::Continue)
    }

    /// Capabilities of files are root's to give, xattr(7).
    pub(super) fn change_attribute(&self, caller: &Caller<'_>) -> nix::Result<Reply> {
        let name = Self::name(caller)?;
        if name.starts_with(RESERVED.as_bytes())
            || (name.starts_with(b"security.") && !self.credentials(caller)?.is_capable())
        {
            return Err(Errno::EPERM);
        }
        Ok(Reply::Continue)
    }

    pub(super) fn list_attributes(caller: &Caller<'_>, subject: Subject) -> nix::Result<Reply> {
        let Some(target) = Self::subject(caller, subject)? else {
            return Ok(Reply::Continue);
        };
        let Ok(names) = xattr::list(&target.path, target.follow) else {
            return Ok(Reply::Continue);
        };
        let mut shown = Vec::with_capacity(names.len());
        for name in names.split_inclusive(|byte| *byte == 0) {
            if !name.starts_with(RESERVED.as_bytes()) {
                shown.extend_from_slice(name);
            }
        }
        let refuses = subject == Subject::Descriptor && caller.is_path_only(caller.int(0));
        if shown.len() == names.len() || refuses {
            return Ok(Reply::Continue);
        }
        let room = usize::try_from(caller.address(2)).unwrap_or(usize::MAX);
        if room > 0 {
            if room < shown.len() {
                return Err(Errno::ERANGE);
            }
            if !shown.is_empty() {
                caller.write(caller.address(1), &shown)?;
            }
        }
        Ok(Reply::Value(i64::try_from(shown.len()).unwrap_or(0)))
    }

    fn subject(caller: &Caller<'_>, subject: Subject) -> nix::Result<Option<Target>> {
        let lookup = Lookup {
            no_follow: subject == Subject::Link,
            ..Lookup::default()
        };
        match subject {
            Subject::Descriptor => Ok(caller.descriptor(caller.int(0))),
            Subject::Path | Subject::Link => {
                caller.target_at(libc::AT_FDCWD, caller.address(0), lookup)
            }
        }
    }
}
