//! Subordinate ids and the programs that map them.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::namespace::Inside;
use super::{Answer, Finding};
use crate::sandbox::{subids, userns};
use crate::sys;

/// Why a namespace has only one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Single {
    /// Files without a line for the user.
    NoRange(Vec<&'static str>),
    /// Programs that are not there.
    NoHelper(Vec<&'static str>),
    /// A program that gets no power from its file, and why.
    Powerless(String),
    /// Root of a namespace that has one id itself.
    Nested,
    /// What the program said.
    Failed(String),
}

/// What there is to map many ids with.
#[derive(Debug)]
pub(super) struct Ids {
    /// The user's name; a uid need not have one.
    pub(super) user: Option<String>,
    uid: u32,
    /// Root that may write any map.
    is_direct: bool,
    no_new_privs: bool,
    pairs: [Pair; 2],
}

#[derive(Debug)]
struct Pair {
    program: &'static str,
    file: &'static str,
    ranges: Vec<subids::Range>,
    helper: Option<Helper>,
}

#[derive(Debug)]
struct Helper {
    /// Where its power comes from, or why it has none.
    power: Answer,
}

impl Ids {
    pub(super) fn look() -> Self {
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid)
            .ok()
            .flatten()
            .map(|user| user.name);
        let pair = |program, file| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            Pair {
                program,
                file,
                ranges: subids::parse(&text, user.as_deref(), uid.as_raw()),
                helper: userns::find_helper(program).map(|path| Helper::look(&path)),
            }
        };
        Self {
            uid: uid.as_raw(),
            is_direct: uid.is_root() && userns::may_map_any_id(),
            no_new_privs: nix::sys::prctl::get_no_new_privs().unwrap_or(false),
            pairs: [
                pair("newuidmap", "/etc/subuid"),
                pair("newgidmap", "/etc/subgid"),
            ],
            user,
        }
    }

    /// The name in messages.
    fn shown_user(&self) -> String {
        self.user.clone().unwrap_or_else(|| self.uid.to_string())
    }

    /// What lies behind the `reason` that entering a namespace gave.
    pub(super) fn why_single(&self, reason: &str) -> Single {
        if self.is_direct {
            return Single::Nested;
        }
        self.missing()
            .unwrap_or_else(|| Single::Failed(reason.to_owned()))
    }

    /// The same where there is no namespace to see it in: what would be missing after all.
    pub(super) fn would_be_single(&self) -> Option<Single> {
        if self.is_direct {
            return None;
        }
        self.missing()
    }

    fn missing(&self) -> Option<Single> {
        let files: Vec<_> = self
            .pairs
            .iter()
            .filter(|pair| pair.ranges.is_empty())
            .map(|pair| pair.file)
            .collect();
        if !files.is_empty() {
            return Some(Single::NoRange(files));
        }
        let programs: Vec<_> = self
            .pairs
            .iter()
            .filter(|pair| pair.helper.is_none())
            .map(|pair| pair.program)
            .collect();
        if !programs.is_empty() {
            return Some(Single::NoHelper(programs));
        }
        self.power().err().map(Single::Powerless)
    }

    /// Whether both programs get what they need when they are executed.
    fn power(&self) -> Answer {
        if self.no_new_privs {
            return Err("no_new_privs is set, so they run without privileges".to_owned());
        }
        let mut sources = Vec::new();
        for helper in self.pairs.iter().filter_map(|pair| pair.helper.as_ref()) {
            sources.push(helper.power.clone()?);
        }
        sources.dedup();
        Ok(sources.join("; "))
    }

    pub(super) fn findings(&self, inside: &Inside) -> Vec<Finding> {
        let owners = match (inside.has_namespace(), inside.single_reason()) {
            (false, _) => Err("not tried, because there is no user namespace".to_owned()),
            (true, None) => Ok("many ids can be mapped".to_owned()),
            (true, Some(reason)) => Err(format!("one id only: {reason}")),
        };
        vec![
            Finding::new(
                "subordinate-ids",
                "one id each for the users of an image",
                self.ranges(),
            ),
            Finding::new(
                "newuidmap",
                "maps subordinate ids into a namespace",
                self.helpers(),
            ),
            Finding::new("id-map", "the mapped rung: owners are the kernel's", owners),
        ]
    }

    fn ranges(&self) -> Answer {
        if self.is_direct {
            return Ok("not needed: root maps its own ids".to_owned());
        }
        let user = self.shown_user();
        let files: Vec<_> = self
            .pairs
            .iter()
            .filter(|pair| pair.ranges.is_empty())
            .map(|pair| pair.file)
            .collect();
        if files.is_empty() {
            let count: u64 = self.pairs[0]
                .ranges
                .iter()
                .map(|range| u64::from(range.count))
                .sum();
            return Ok(format!("{count} for {user}"));
        }
        Err(format!("no line for {user} in {}", files.join(" and ")))
    }

    fn helpers(&self) -> Answer {
        if self.is_direct {
            return Ok("not needed: root maps its own ids".to_owned());
        }
        let missing: Vec<_> = self
            .pairs
            .iter()
            .filter(|pair| pair.helper.is_none())
            .map(|pair| pair.program)
            .collect();
        if !missing.is_empty() {
            return Err(format!("no {}", missing.join(" and no ")));
        }
        self.power()
    }
}

impl Helper {
    fn look(path: &Path) -> Self {
        Self {
            power: power(path).map_err(|reason| format!("{} {reason}", path.display())),
        }
    }
}

/// Where a program gets its power from when an ordinary user executes it.
fn power(path: &Path) -> Answer {
    const SET_USER_ID: u32 = 0o4000;
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if statvfs(path).is_ok_and(|it| it.flags().contains(FsFlags::ST_NOSUID)) {
        return Err("is on a file system that is mounted nosuid".to_owned());
    }
    if has_capabilities(path) {
        return Ok("file capabilities".to_owned());
    }
    if metadata.mode() & SET_USER_ID != 0 && metadata.uid() == 0 {
        return Ok("set-user-id root".to_owned());
    }
    Err("is neither set-user-id root nor has it file capabilities".to_owned())
}

fn has_capabilities(path: &Path) -> bool {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    sys::fs::open_directory(parent).is_ok_and(|parent| {
        sys::xattr::get_at(&parent, name, OsStr::new("security.capability"))
            .is_ok_and(|value| value.is_some())
    })
}
