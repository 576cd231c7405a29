//! `--chown`: the numbers behind the names.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::fcntl::OFlag;

use super::copy::nearest;
use super::error::StepError;
use crate::sandbox::passwd;
use crate::sys;

/// The largest passwd or group file that is read.
const LARGEST_PASSWD: u64 = 10 << 20;

/// The numbers of `user[:group]` in the image's own files. Unlike BuildKit, which takes an unknown
/// name for root, this fails as the Dockerfile reference says.
pub(crate) fn lookup(root: BorrowedFd<'_>, owner: &str) -> Result<(u32, u32), StepError> {
    if let Some(numbers) = in_numbers(owner) {
        return numbers;
    }
    let owner = root_is_zero(owner);
    let passwd = read_small(root, "etc/passwd")?;
    let group = read_small(root, "etc/group")?;
    passwd::lookup_owner(&passwd, &group, &owner).map_err(|source| {
        let (name, names) = match &source {
            passwd::Error::UnknownUser(name) => (name, passwd::names(&passwd)),
            passwd::Error::UnknownGroup(name) => (name, passwd::names(&group)),
            _ => return StepError::Owner { source },
        };
        match nearest(name, names) {
            None => StepError::Owner { source },
            Some(meant) => StepError::Value {
                message: format!("{source} (did you mean {meant}?)"),
            },
        }
    })
}

/// The numbers of an owner that needs no files: ids, and `root`. `None` for other names.
pub(crate) fn in_numbers(owner: &str) -> Option<Result<(u32, u32), StepError>> {
    let numbers = root_is_zero(owner);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !numbers.split(':').all(is_number) {
        return None;
    }
    let found = passwd::lookup_owner(b"", b"", &numbers);
    Some(found.map_err(|source| StepError::Owner { source }))
}

/// `root` is 0 to BuildKit, as a user and as a group, whatever the image's files say.
fn root_is_zero(owner: &str) -> String {
    let parts = owner
        .split(':')
        .map(|part| if part == "root" { "0" } else { part });
    parts.collect::<Vec<_>>().join(":")
}

/// A regular file of the image, of 10 MiB at most; empty when it is missing.
pub(crate) fn read_small(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, StepError> {
    let fail = |source| StepError::ReadImage {
        path: format!("/{path}"),
        source,
    };
    let fd = match sys::fs::open_in_root(
        root,
        Path::new(path),
        OFlag::O_RDONLY | OFlag::O_NONBLOCK,
        0,
    ) {
        Ok(fd) => fd,
        Err(error) if error.errno == nix::errno::Errno::ENOENT => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let stat = sys::fs::stat(&fd).map_err(fail)?;
    if sys::fs::Kind::of(&stat) != sys::fs::Kind::Regular {
        return Err(StepError::Value {
            message: format!("/{path} is not a regular file"),
        });
    }
    let mut bytes = Vec::new();
    File::from(fd)
        .take(LARGEST_PASSWD + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| StepError::Value {
            message: format!("cannot read /{path}: {error}"),
        })?;
    if bytes.len() as u64 > LARGEST_PASSWD {
        return Err(StepError::Value {
            message: format!("/{path} is larger than {LARGEST_PASSWD} bytes"),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_root_need_no_files() {
        for (owner, expected) in [
            ("0", Some((0, 0))),
            ("12", Some((12, 12))),
            ("1:2", Some((1, 2))),
            ("root", Some((0, 0))),
            ("7:root", Some((7, 0))),
            ("app", None),
            ("1:staff", None),
            ("", None),
        ] {
            let found = in_numbers(owner).map(Result::unwrap);
            assert_eq!(found, expected, "{owner:?}");
        }
        assert!(in_numbers("4294967295").unwrap().is_err());
        assert!(in_numbers("1:2:3").unwrap().is_err());
    }
}
