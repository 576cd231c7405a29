//! `-v` and `--tmpfs`: what is mounted into the container.

use std::path::PathBuf;

use crate::dockerfile::parse_size;
use crate::sandbox::Mount;

/// Docker's mode of a `--tmpfs`.
const TMPFS_MODE: u32 = 0o1777;

/// `SRC:DST[:ro|rw]`.
pub(super) fn bind(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        [_] => {
            return Err(
                "a volume without a source is not supported: nothing keeps it; give SRC:DST, or \
                 --tmpfs DST"
                    .to_owned(),
            );
        }
        _ => return Err("a volume is SRC:DST[:ro]".to_owned()),
    };
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        read_only = match option {
            "ro" => true,
            "rw" => false,
            _ => return Err(format!("the option {option:?} is not supported (ro, rw)")),
        };
    }
    Ok(Mount::Bind {
        source: absolute(source)?.into(),
        target: absolute_target(target)?.into(),
        read_only,
    })
}

/// A source as docker tells it from the name of a volume.
fn absolute(source: &str) -> Result<PathBuf, String> {
    let is_path = source.starts_with('/')
        || [".", ".."].contains(&source)
        || ["./", "../"].iter().any(|start| source.starts_with(start));
    if !is_path {
        return Err(format!(
            "{source:?} is the name of a volume, and there is nothing that keeps volumes: a directory \
             is given as /{source} or ./{source}"
        ));
    }
    std::fs::metadata(source)
        .and_then(|_| std::path::absolute(source))
        .map_err(|error| format!("cannot mount {source}: {error}"))
}

/// The target as an absolute path without `.` and `..`, links not looked at.
fn absolute_target(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("the target {target:?} is not an absolute path"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err("the target cannot be /".to_owned());
    }
    Ok(format!("/{}", parts.join("/")))
}

/// `DST[:OPTION,…]`; as with docker it is noexec unless it is told otherwise.
pub(super) fn tmpfs(text: &str) -> Result<Mount, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut no_exec) = (None, TMPFS_MODE, true);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, value) {
            // What it always is.
            ("rw" | "nosuid" | "nodev", "") => {}
            ("exec", "") => no_exec = false,
            ("noexec", "") => no_exec = true,
            ("size", value) => {
                let bytes = parse_size(value).filter(|size| *size > 0);
                size = Some(bytes.ok_or_else(|| format!("{value:?} is no size (as in 64m)"))?);
            }
            ("mode", value) => {
                let bits = u32::from_str_radix(value, 8).ok();
                mode = bits
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| format!("{value:?} is no mode (as in 1777)"))?;
            }
            _ => {
                return Err(format!(
                    "the option {option:?} is not supported (size, mode, exec, noexec)"
                ));
            }
        }
    }
    Ok(Mount::Tmpfs {
        target: absolute_target(target)?.into(),
        size,
        mode,
        no_exec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_path_and_a_target() {
        let bound = |source: &str, target: &str, read_only| Mount::Bind {
            source: source.into(),
            target: target.into(),
            read_only,
        };
        let here = std::env::current_dir().unwrap();
        assert_eq!(bind("/:/a"), Ok(bound("/", "/a", false)));
        assert_eq!(bind("/:/a/./b/../c:ro"), Ok(bound("/", "/a/c", true)));
        assert_eq!(bind("/:/a:ro,rw"), Ok(bound("/", "/a", false)));
        assert_eq!(bind(".:/a"), Ok(bound(here.to_str().unwrap(), "/a", false)));
        for (text, why) in [
            ("/a", "without a source"),
            ("data:/a", "the name of a volume"),
            ("/no/such/place:/a", "cannot mount /no/such/place"),
            ("/:a", "not an absolute path"),
            ("/:/", "cannot be /"),
            ("/:/a/..", "cannot be /"),
            ("/:/a:z", "\"z\" is not supported"),
            ("/:/a:ro:x", "SRC:DST"),
            (":/a", "the name of a volume"),
        ] {
            let error = bind(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_tmpfs_has_dockers_options() {
        let made = |size, mode, no_exec| {
            Ok(Mount::Tmpfs {
                target: "/t".into(),
                size,
                mode,
                no_exec,
            })
        };
        assert_eq!(tmpfs("/t"), made(None, 0o1777, true));
        assert_eq!(
            tmpfs("/t:rw,exec,size=1m,mode=700"),
            made(Some(1 << 20), 0o700, false)
        );
        for text in [
            "t",
            "/",
            "/t:size=x",
            "/t:size=0",
            "/t:mode=9",
            "/t:ro",
            "/t:uid=1",
        ] {
            assert!(tmpfs(text).is_err(), "{text}");
        }
    }
}
