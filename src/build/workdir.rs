//! WORKDIR: a directory that is there when the next step starts.

use std::os::fd::AsFd as _;
use std::path::Path;

use nix::fcntl::OFlag;

use super::error::StepError;
use super::key::KeyBuilder;
use super::owner::read_small;
use super::state::StageState;
use crate::oci::{Digest, Platform};
use crate::sandbox::passwd;
use crate::store::{Active, Store};
use crate::sys;

/// The key of a WORKDIR that makes its directory.
pub(crate) fn workdir_key(
    state: &StageState,
    path: &str,
    platform: &Platform,
    clamp: Option<i64>,
) -> Digest {
    let mut key = KeyBuilder::new("workdir", state.snapshot.chain_id(), platform);
    key.field("path", path)
        .field("user", &state.config.config.user);
    if let Some(clamp) = clamp {
        key.field("clamp", clamp.to_string());
    }
    key.finish()
}

/// Creates `path` and its missing parents, 0755, owned by the stage's user.
pub(crate) fn create_workdir(
    store: &Store,
    state: &StageState,
    active: &Active,
    path: &str,
) -> Result<(), StepError> {
    let root = store.mount(active)?;
    let user = &state.config.config.user;
    let (uid, gid) = if user.is_empty() {
        (0, 0)
    } else {
        let passwd = read_small(root.as_fd(), "etc/passwd")?;
        let group = read_small(root.as_fd(), "etc/group")?;
        let identity = passwd::lookup_user(&passwd, &group, user)
            .map_err(|source| StepError::Owner { source })?;
        (identity.uid, identity.gid)
    };
    let mut done = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let fail = |path: &str| {
            let path = format!("{path}/{part}");
            move |source| StepError::Directory { path, source }
        };
        let parent = sys::fs::open_in_root(
            root.as_fd(),
            Path::new(&done),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY,
            0,
        )
        .map_err(fail(&done))?;
        match sys::fs::make_directory_at(&parent, part.as_ref(), 0o755) {
            Ok(()) => {
                sys::fs::chmod_at(&parent, part.as_ref(), 0o755).map_err(fail(&done))?;
                if (uid, gid) != (0, 0) {
                    active
                        .ownership()
                        .set_at(&parent, part.as_ref(), uid, gid)
                        .map_err(|source| StepError::SetOwner {
                            path: path.to_owned(),
                            source,
                        })?;
                }
            }
            Err(error) if error.errno == nix::errno::Errno::EEXIST => {}
            Err(error) => return Err(fail(&done)(error)),
        }
        done = format!("{done}/{part}");
    }
    // What is there must be a directory, also where a link led.
    sys::fs::open_in_root(
        root.as_fd(),
        Path::new(path),
        OFlag::O_PATH | OFlag::O_DIRECTORY,
        0,
    )
    .map_err(|source| StepError::Directory {
        path: path.to_owned(),
        source,
    })?;
    Ok(())
}
