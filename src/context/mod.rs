//! Build contexts: the trees that COPY, ADD and bind mounts read, and what is hidden from them.

#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
pub(crate) mod digest;
pub(crate) mod glob;
pub(crate) mod ignore;
mod records;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::context::ignore::Ignore;
use crate::sys;

/// Ignore files are lists; something longer than this is a mistake.
const IGNORE_FILE_LIMIT: u64 = 1 << 20;

/// A source tree, opened once: every later look goes through the descriptor.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    ignore: Ignore,
    /// Holds the files of a context that has no directory of its own; removed with the context.
    _scratch: Option<tempfile::TempDir>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot open the build context {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    #[error("cannot make a scratch directory in {}", path.display())]
    Scratch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot unpack the build context")]
    Unpack {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot read {}", path.display())]
    ReadIgnore {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a regular UTF-8 file below {limit} bytes", path.display())]
    NotText { path: PathBuf, limit: u64 },
    #[error("cannot use {} as an ignore file", path.display())]
    Ignore {
        path: PathBuf,
        #[source]
        source: ignore::Error,
    },
}

impl Context {
    /// The directory `path` of the host, without what `ignore` hides.
    pub(crate) fn directory(path: &Path, ignore: Ignore) -> Result<Self, Error> {
        Ok(Self {
            root: open(path)?,
            ignore,
            _scratch: None,
        })
    }

    /// A context without files, in a new directory below `scratch`.
    pub(crate) fn empty(scratch: &Path) -> Result<Self, Error> {
        let directory = tempfile::Builder::new()
            .prefix("context-")
            .tempdir_in(scratch)
            .map_err(|source| Error::Scratch {
                path: scratch.to_owned(),
                source,
            })?;
        Ok(Self {
            root: open(directory.path())?,
            ignore: Ignore::default(),
            _scratch: Some(directory),
        })
    }

    /// The files of an uncompressed tar, which `unpack` writes into a new directory below `scratch`;
    /// no ignore file applies to it, as with BuildKit.
    pub(crate) fn from_tar<R, E>(
        tar: R,
        scratch: &Path,
        unpack: impl FnOnce(R, BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<Self, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let context = Self::empty(scratch)?;
        unpack(tar, context.root()).map_err(|error| Error::Unpack {
            source: error.into(),
        })?;
        Ok(context)
    }

    /// A directory that is open already, none of which is hidden.
    pub(crate) fn opened(root: OwnedFd) -> Self {
        Self {
            root,
            ignore: Ignore::default(),
            _scratch: None,
        }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where the tree is now, for a process that opens it anew.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }

    pub(crate) fn ignore(&self) -> &Ignore {
        &self.ignore
    }
}

/// The ignore rules for a build of `dockerfile` in `context`, and the file they came from:
/// `<dockerfile>.dockerignore` when there is one, else `.dockerignore` in the context. `dockerfile` is
/// `None` when it has no place (stdin).
pub(crate) fn read_ignore_file(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<(Ignore, Option<PathBuf>), Error> {
    let own = dockerfile.map(|dockerfile| {
        let mut name = dockerfile.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let shared = context.join(".dockerignore");
    for path in own.into_iter().chain([shared]) {
        if let Some(text) = read_text(context, &path)? {
            let name = path.strip_prefix(context).unwrap_or(&path).display();
            return match Ignore::parse(&name.to_string(), &text) {
                Ok(ignore) => Ok((ignore, Some(path))),
                Err(source) => Err(Error::Ignore { path, source }),
            };
        }
    }
    Ok((Ignore::default(), None))
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    sys::fs::open_directory(path).map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })
}

/// The text of an ignore file, `None` when there is none. Below the context links are followed within
/// it only, for a context may come from a stranger and error messages quote lines.
fn read_text(context: &Path, path: &Path) -> Result<Option<String>, Error> {
    let failed = |source| Error::ReadIgnore {
        path: path.to_owned(),
        source,
    };
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let opened = match path.strip_prefix(context) {
        Ok(relative) => sys::fs::open_in_root(open(context)?, relative, flags, 0)
            .map(File::from)
            .map_err(io::Error::from),
        Err(_) => File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path),
    };
    let file = match opened {
        Ok(file) => file,
        // Rules that cannot be reached must not be taken for no rules: what they hide may be secret.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let not_text = || Error::NotText {
        path: path.to_owned(),
        limit: IGNORE_FILE_LIMIT,
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(not_text());
    }
    let mut bytes = Vec::new();
    file.take(IGNORE_FILE_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 == IGNORE_FILE_LIMIT {
        return Err(not_text());
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_not_utf8| not_text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_ignore_file_of_the_dockerfile_replaces_that_of_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let dockerfile = dir.path().join("app.Dockerfile");
        let (ignore, source) = read_ignore_file(dir.path(), Some(&dockerfile)).unwrap();
        assert!(ignore.is_empty() && source.is_none());

        fs::write(dir.path().join(".dockerignore"), "shared\n").unwrap();
        let (ignore, source) = read_ignore_file(dir.path(), None).unwrap();
        assert_eq!(source.unwrap(), dir.path().join(".dockerignore"));
        assert!(ignore.verdict(Path::new("shared")).ignored);

        fs::write(dir.path().join("app.Dockerfile.dockerignore"), "own\n").unwrap();
        let (ignore, source) = read_ignore_file(dir.path(), Some(&dockerfile)).unwrap();
        assert_eq!(
            source.unwrap(),
            dir.path().join("app.Dockerfile.dockerignore")
        );
        assert!(ignore.verdict(Path::new("own")).ignored);
        assert!(!ignore.verdict(Path::new("shared")).ignored);
    }

    #[test]
    fn an_ignore_file_that_is_no_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".dockerignore")).unwrap();
        assert!(matches!(
            read_ignore_file(dir.path(), None),
            Err(Error::NotText { .. })
        ));
        fs::remove_dir(dir.path().join(".dockerignore")).unwrap();
        fs::write(dir.path().join(".dockerignore"), b"\xff").unwrap();
        assert!(read_ignore_file(dir.path(), None).is_err());
        fs::write(dir.path().join(".dockerignore"), "ok\n!\n").unwrap();
        let error = read_ignore_file(dir.path(), None).unwrap_err();
        assert!(error.to_string().contains(".dockerignore"), "{error}");
    }

    #[test]
    fn an_ignore_file_that_leads_out_of_the_context_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(".dockerignore");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(matches!(
            read_ignore_file(dir.path(), None),
            Err(Error::ReadIgnore { .. })
        ));
        fs::remove_file(&link).unwrap();
        fs::write(dir.path().join("rules"), "a\n").unwrap();
        std::os::unix::fs::symlink("rules", &link).unwrap();
        let (ignore, _) = read_ignore_file(dir.path(), None).unwrap();
        assert!(ignore.verdict(Path::new("a")).ignored);
    }

    #[test]
    fn a_tar_context_is_a_directory_that_goes_away() {
        let scratch = tempfile::tempdir().unwrap();
        let context = Context::from_tar(&b"bytes"[..], scratch.path(), |mut tar, root| {
            let mut text = String::new();
            tar.read_to_string(&mut text)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
            sys::fs::open_at(root, std::ffi::OsStr::new(&text), flags, 0o644)
                .map(drop)
                .map_err(io::Error::from)
        })
        .unwrap();
        assert_eq!(sys::fs::read_names(context.root()).unwrap(), ["bytes"]);
        drop(context);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
