//! What a build reads first: the Dockerfile's text, and the context it stands in.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::request::{ContextSource, DockerfileSource, Request};
use crate::layer::is_tar;

/// The largest Dockerfile that is read.
const LARGEST_DOCKERFILE: u64 = 4 << 20;

/// The names that are tried when none is given; the last is buildah's.
const DEFAULT_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// A Dockerfile's text and how messages call it.
#[derive(Debug, Clone)]
pub(crate) struct DockerfileText {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Where it lies, when it lies somewhere: its own ignore file stands beside it.
    pub(crate) path: Option<PathBuf>,
}

/// What stands on standard input.
#[derive(Debug)]
pub(crate) enum Stdin {
    /// `rbuild build -` with a Dockerfile: there is no context.
    Dockerfile(DockerfileText),
    /// An archive of the context, complete and decompressed only when read. The file has no name.
    Archive(File),
}

/// Reads the Dockerfile of a request whose context is a directory, or which comes by itself.
pub(crate) fn read_dockerfile(request: &Request) -> Result<DockerfileText, Error> {
    match (&request.dockerfile, &request.context) {
        (DockerfileSource::Stdin, _) => {
            let text = read_text(&mut io::stdin().lock(), "-")?;
            Ok(DockerfileText {
                name: "Dockerfile".to_owned(),
                text,
                path: None,
            })
        }
        (DockerfileSource::Path(path), _) => read_file(path),
        (DockerfileSource::Remote(_), _)
        | (DockerfileSource::Default, ContextSource::Remote(_)) => {
            unreachable!("what is elsewhere is read by build::load_remote")
        }
        (DockerfileSource::Default, ContextSource::Directory(context)) => {
            check_directory(context)?;
            read_default(context)
        }
        (DockerfileSource::Default, ContextSource::Stdin) => {
            unreachable!("a context on standard input is read by read_stdin")
        }
    }
}

/// Fails with one clear message when the context is no directory.
pub(crate) fn check_directory(context: &Path) -> Result<(), Error> {
    match std::fs::metadata(context) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::ContextNotADirectory {
            path: context.to_owned(),
        }),
        Err(source) => Err(Error::Context {
            path: context.to_owned(),
            source,
        }),
    }
}

/// Finds the Dockerfile of a context that has come as an archive, below its root directory.
/// `context` is how messages call the archive.
pub(crate) fn read_from_archive(
    root: BorrowedFd<'_>,
    source: &DockerfileSource,
    context: &str,
) -> Result<DockerfileText, Error> {
    let names: Vec<&Path> = match source {
        DockerfileSource::Path(path) => vec![path],
        DockerfileSource::Default | DockerfileSource::Stdin | DockerfileSource::Remote(_) => {
            DEFAULT_NAMES.iter().map(Path::new).collect()
        }
    };
    for path in &names {
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK;
        match crate::sys::fs::open_in_root(root, path, flags, 0) {
            Ok(file) => return read_opened(File::from(file), path),
            Err(error) if error.errno == nix::errno::Errno::ENOENT => {}
            Err(error) => {
                let path = (*path).to_owned();
                return Err(Error::ReadDockerfile {
                    path,
                    source: error.into(),
                });
            }
        }
    }
    Err(Error::NoDockerfile {
        context: context.into(),
    })
}

fn read_default(context: &Path) -> Result<DockerfileText, Error> {
    for name in DEFAULT_NAMES {
        match read_file(&context.join(name)) {
            Err(Error::ReadDockerfile { source, .. })
                if source.kind() == io::ErrorKind::NotFound => {}
            Ok(mut found) => {
                name.clone_into(&mut found.name);
                return Ok(found);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::NoDockerfile {
        context: context.to_owned(),
    })
}

fn read_file(path: &Path) -> Result<DockerfileText, Error> {
    let file = File::options()
        .read(true)
        // A FIFO in the place of the file must not hold the build up.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| Error::ReadDockerfile {
            path: path.to_owned(),
            source,
        })?;
    read_opened(file, path)
}

fn read_opened(mut file: File, path: &Path) -> Result<DockerfileText, Error> {
    let fail = |source| Error::ReadDockerfile {
        path: path.to_owned(),
        source,
    };
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(fail(io::Error::other("it is not a regular file")));
    }
    let text = read_text(&mut file, &path.display().to_string())?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(DockerfileText {
        name: name.to_string_lossy().into_owned(),
        text,
        path: Some(path.to_owned()),
    })
}

/// Reads a Dockerfile that was fetched; `path` is how messages call its place.
pub(crate) fn read_fetched(file: &mut File, path: &str) -> Result<DockerfileText, Error> {
    Ok(DockerfileText {
        name: "Dockerfile".to_owned(),
        text: read_text(file, path)?,
        path: None,
    })
}

fn read_text(reader: &mut dyn Read, path: &str) -> Result<String, Error> {
    let fail = |source| Error::ReadDockerfile {
        path: path.into(),
        source,
    };
    let mut bytes = Vec::new();
    reader
        .take(LARGEST_DOCKERFILE + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > LARGEST_DOCKERFILE {
        return Err(fail(io::Error::other("it is larger than 4 MiB")));
    }
    String::from_utf8(bytes).map_err(|_| {
        fail(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not UTF-8 text",
        ))
    })
}

/// Reads standard input for `rbuild build -`: an archive (of any compression) is spooled to a file
/// without a name, anything else is a Dockerfile.
pub(crate) fn read_stdin() -> Result<Stdin, Error> {
    let fail = |source| Error::ReadDockerfile {
        path: "-".into(),
        source,
    };
    let mut stdin = io::stdin().lock();
    let mut start = Vec::new();
    (&mut stdin)
        .take(512)
        .read_to_end(&mut start)
        .map_err(fail)?;
    if !looks_like_archive(&start) {
        let text = read_text(&mut start.as_slice().chain(stdin), "-")?;
        return Ok(Stdin::Dockerfile(DockerfileText {
            name: "Dockerfile".to_owned(),
            text,
            path: None,
        }));
    }
    let mut spool = tempfile::tempfile().map_err(fail)?;
    spool.write_all(&start).map_err(fail)?;
    io::copy(&mut stdin, &mut spool).map_err(fail)?;
    spool.seek(SeekFrom::Start(0)).map_err(fail)?;
    Ok(Stdin::Archive(spool))
}

/// By content, as BuildKit decides it: a tar header, or the magic of a compressed stream.
pub(crate) fn looks_like_archive(start: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"];
    is_tar(start) || MAGICS.iter().any(|magic| start.starts_with(magic))
}
