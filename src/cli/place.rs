//! Where the store is: as the caller says, else the first place that can hold one.
//!
//! Without `--root` and `RBUILD_ROOT` these are looked at in order:
//!
//! 1. `$XDG_DATA_HOME/rbuild`, by default `~/.local/share/rbuild` (XDG Base Directory Specification)
//! 2. `$XDG_CACHE_HOME/rbuild`
//! 3. `rbuild-UID` in `$TMPDIR`, `/var/tmp` and `/tmp`
//! 4. `.rbuild-UID` in every volume of a container (`/builds`), in the order of mounting; not in one that is
//!    the working directory, because it would become part of the build context
//! 5. `rbuild-UID` in `/dev/shm`
//!
//! A directory of the last three kinds has a name that others can guess. It must be a directory, no link,
//! that belongs to the caller, in a directory where nobody else can replace it. Every command makes the
//! same choice, as long as nothing else changes.

mod volumes;

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statfs;

use super::Exit;
use super::report::{self, Report};
use crate::sandbox::probe;
use crate::store::place::{self, Fit, Unfit};

/// What the choice depends on.
#[derive(Debug)]
struct Surroundings {
    data: Option<PathBuf>,
    cache: Option<PathBuf>,
    temporary: Option<PathBuf>,
    uid: u32,
    /// The text of proc_pid_mountinfo(5).
    mounts: Vec<u8>,
    /// The working directory.
    working: Option<PathBuf>,
    /// This is a container, in which nobody else is.
    in_container: bool,
}

/// A place for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) root: PathBuf,
    /// Why it is not the ordinary one.
    pub(super) moved: Option<String>,
}

/// There is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no home directory, and no other place can hold the store")]
    Homeless,
    #[error("no place can hold the store: {0}")]
    Unfit(Unfit),
}

/// The place that the caller named, or the one that is chosen. Must be called while the process has
/// one thread.
pub(super) fn choose(named: Option<PathBuf>) -> Result<Chosen, Error> {
    match named {
        Some(root) => Ok(Chosen { root, moved: None }),
        None => Surroundings::look().choose(&check),
    }
}

/// As [`choose`], for commands: says on standard error what the user needs to know.
pub(super) fn find(named: Option<PathBuf>) -> Result<PathBuf, Exit> {
    match choose(named) {
        Ok(Chosen { root, moved: None }) => Ok(root),
        Ok(Chosen {
            root,
            moved: Some(reason),
        }) => {
            report::note(&format!(
                "the store is in {}, because {reason}",
                root.display()
            ));
            Ok(root)
        }
        Err(error) => {
            report::print(&Report {
                title: error.to_string(),
                help: Some(HELP.to_owned()),
                ..Report::default()
            });
            Err(Exit::Host)
        }
    }
}

const HELP: &str = "give it a directory on ext4, xfs, btrfs or tmpfs with --root DIR or RBUILD_ROOT; \
                    in a container that is a volume (docker run --volume, an emptyDir)";

/// Refuses a store that cannot hold what a build in namespaces makes. Must be called inside the build's
/// user namespace.
pub(super) fn require_overlay(root: &Path) -> Result<(), Exit> {
    let verdict = match place::examine(root) {
        Ok(Fit::Known) => Ok(()),
        Ok(Fit::Untried) => place::try_overlay(root),
        Err(unfit) => Err(unfit),
    };
    verdict.map_err(|unfit| {
        report::print(&Report {
            title: format!("the store cannot be in {}", root.display()),
            causes: vec![unfit.to_string()],
            help: Some(HELP.to_owned()),
            ..Report::default()
        });
        Exit::Host
    })
}

/// Whether a build can have its store at `root`. Where there are no user namespaces there are no overlay
/// mounts either, so only writing counts.
fn check(root: &Path) -> Result<(), Unfit> {
    match place::examine(root) {
        Ok(Fit::Known) => Ok(()),
        Ok(Fit::Untried) => match probe::in_namespace(|| place::try_overlay(root).is_ok()) {
            Some(false) => Err(Unfit::NoOverlay {
                path: root.to_owned(),
                kind: place::kind_at(root).unwrap_or_else(|| "a file system".to_owned()),
            }),
            Some(true) | None => Ok(()),
        },
        Err(unfit) if unfit.is_about_overlay() => match probe::in_namespace(|| true) {
            Some(_) => Err(unfit),
            None => Ok(()),
        },
        Err(unfit) => Err(unfit),
    }
}

impl Surroundings {
    fn look() -> Self {
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        let variable = |name| std::env::var_os(name).and_then(|path| absolute(path.into()));
        Self {
            data: variable("XDG_DATA_HOME")
                .or_else(|| Some(absolute(std::env::home_dir()?)?.join(".local/share"))),
            cache: variable("XDG_CACHE_HOME"),
            temporary: variable("TMPDIR"),
            uid: nix::unistd::geteuid().as_raw(),
            mounts: Vec::new(),
            working: None,
            in_container: false,
        }
    }

    /// Looks at what only a store that has to move needs to know.
    fn look_around(&mut self) {
        self.mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        self.working = std::env::current_dir().ok();
        // Only root of the file system could make one of the files.
        self.in_container = Path::new("/.dockerenv").exists()
            || Path::new("/run/.containerenv").exists()
            || statfs::statfs("/")
                .is_ok_and(|it| it.filesystem_type() == statfs::OVERLAYFS_SUPER_MAGIC);
    }

    fn choose(mut self, check: &dyn Fn(&Path) -> Result<(), Unfit>) -> Result<Chosen, Error> {
        let usual = self.data.take().map(|data| data.join("rbuild"));
        let first = match &usual {
            Some(root) => match check(root) {
                Ok(()) => {
                    return Ok(Chosen {
                        root: root.clone(),
                        moved: None,
                    });
                }
                Err(unfit) => Some(unfit),
            },
            None => None,
        };
        if self.mounts.is_empty() {
            self.look_around();
        }
        let found = self.candidates().into_iter().find(|candidate| {
            check(&candidate.root).is_ok() && candidate.make(self.uid, self.in_container)
        });
        match (found, first) {
            (Some(candidate), first) => Ok(Chosen {
                root: candidate.root,
                moved: Some(first.map_or_else(
                    || "there is no home directory".to_owned(),
                    |unfit| unfit.to_string(),
                )),
            }),
            (None, Some(unfit)) => Err(Error::Unfit(unfit)),
            (None, None) => Err(Error::Homeless),
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let place = |root: PathBuf, kind| Candidate { root, kind };
        let named = format!("rbuild-{}", self.uid);
        let temporary = self.temporary.iter().map(PathBuf::as_path);
        let temporary = temporary.chain([Path::new("/var/tmp"), Path::new("/tmp")]);
        let mut candidates: Vec<_> = self
            .cache
            .iter()
            .map(|cache| place(cache.join("rbuild"), Kind::Own))
            .collect();
        candidates.extend(temporary.map(|directory| place(directory.join(&named), Kind::Shared)));
        candidates.extend(
            volumes::of(&self.mounts)
                .iter()
                .filter(|volume| Some(volume.as_path()) != self.working.as_deref())
                .map(|volume| place(volume.join(format!(".{named}")), Kind::Volume)),
        );
        candidates.push(place(Path::new("/dev/shm").join(named), Kind::Shared));
        candidates
    }
}

/// Somewhere else for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    root: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The user named the directory above it.
    Own,
    /// Everybody on the machine knows the name and may write to the directory.
    Shared,
    /// The same, but in a container nobody else is there: an emptyDir has mode 0777.
    Volume,
}

impl Candidate {
    /// Makes the directory, mode 0700; whether it is the caller's and stays it.
    fn make(&self, uid: u32, in_container: bool) -> bool {
        if self.kind == Kind::Own {
            return true;
        }
        let Some(parent) = self.root.parent() else {
            return false;
        };
        // The owner of a directory, and everybody who may write to one that is not sticky, can replace
        // what is in it.
        const STICKY: u32 = 0o1000;
        let is_safe = std::fs::metadata(parent).is_ok_and(|metadata| {
            let by_others = metadata.mode() & 0o022 != 0 && metadata.mode() & STICKY == 0;
            (in_container && self.kind == Kind::Volume)
                || ((metadata.uid() == uid || metadata.uid() == 0) && !by_others)
        });
        if !is_safe {
            return false;
        }
        // One that is there already is looked at like a new one.
        drop(std::fs::DirBuilder::new().mode(0o700).create(&self.root));
        std::fs::symlink_metadata(&self.root)
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(mounts: &str) -> Surroundings {
        Surroundings {
            data: Some("/home/u/.local/share".into()),
            cache: Some("/cache".into()),
            temporary: None,
            uid: 7,
            mounts: mounts.as_bytes().to_vec(),
            working: Some("/bin".into()),
            in_container: true,
        }
    }

    fn on_overlay(path: &Path) -> Result<(), Unfit> {
        Err(Unfit::NoOverlay {
            path: path.to_owned(),
            kind: "overlayfs".to_owned(),
        })
    }

    #[test]
    fn the_usual_place_is_taken_when_nothing_is_against_it() {
        let chosen = surroundings("x").choose(&|_| Ok(())).unwrap();
        assert_eq!(chosen.root, Path::new("/home/u/.local/share/rbuild"));
        assert_eq!(chosen.moved, None);
    }

    #[test]
    fn the_reason_of_a_move_is_that_of_the_usual_place() {
        let check = |path: &Path| {
            if path.starts_with("/cache") {
                Ok(())
            } else {
                on_overlay(path)
            }
        };
        let chosen = surroundings("x").choose(&check).unwrap();
        assert_eq!(chosen.root, Path::new("/cache/rbuild"));
        assert!(
            chosen
                .moved
                .unwrap()
                .contains("/home/u/.local/share/rbuild is on overlayfs")
        );
    }

    #[test]
    fn volumes_come_after_temporary_directories_and_before_shared_memory() {
        let mounts = "22 1 0:20 / / rw - overlay overlay rw\n\
            23 22 0:5 / /proc rw - proc proc rw\n\
            24 22 8:1 /v /usr rw master:1 - ext4 /dev/sda1 rw\n\
            25 22 8:1 /v /etc/hosts rw - ext4 /dev/sda1 rw\n\
            26 22 0:9 / /dev/shm rw - tmpfs shm rw\n\
            27 22 8:1 /w /bin rw - ext4 /dev/sda1 rw\n\
            28 22 0:9 / /lib rw - cgroup2 x rw\n";
        let candidates: Vec<_> = surroundings(mounts)
            .candidates()
            .into_iter()
            .map(|candidate| candidate.root.display().to_string())
            .collect();
        assert_eq!(
            candidates,
            [
                "/cache/rbuild",
                "/var/tmp/rbuild-7",
                "/tmp/rbuild-7",
                "/usr/.rbuild-7",
                "/dev/shm/rbuild-7"
            ]
        );
    }

    #[test]
    fn without_any_place_the_first_reason_is_given() {
        let error = surroundings("x").choose(&on_overlay).unwrap_err();
        assert!(matches!(error, Error::Unfit(_)), "{error}");
        let homeless = Surroundings {
            data: None,
            ..surroundings("x")
        };
        assert_eq!(homeless.choose(&on_overlay).unwrap_err(), Error::Homeless);
    }

    #[test]
    fn a_directory_that_others_can_replace_is_not_taken() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let candidate = Candidate {
            root: parent.path().join("rbuild-7"),
            kind: Kind::Shared,
        };
        let volume = Candidate {
            kind: Kind::Volume,
            ..candidate.clone()
        };
        let mode = |mode| {
            std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o777);
        assert!(!candidate.make(uid, true) && !volume.make(uid, false));
        assert!(!candidate.root.exists());
        assert!(volume.make(uid, true), "a container");
        std::fs::remove_dir(&volume.root).unwrap();
        mode(0o1777);
        assert!(candidate.make(uid, false));
        assert_eq!(
            std::fs::metadata(&candidate.root).unwrap().mode() & 0o777,
            0o700
        );
        assert!(candidate.make(uid, false), "the second time");
        assert!(!candidate.make(uid + 1, false), "somebody else's");
        std::fs::remove_dir(&candidate.root).unwrap();
        std::os::unix::fs::symlink("/tmp", &candidate.root).unwrap();
        assert!(!candidate.make(uid, false), "a link");
    }
}
