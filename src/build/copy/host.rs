//! A root file system as files of the invoking user, for `--output type=local`.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use super::filter::Filter;
use super::select::Match;
use super::sink::Target;
use super::write::{Rules, Writer};
use super::{Copied, Origin, Tree, select};
use crate::ownership::Owners;
use crate::sys;

/// Copies everything in `root` into the directory `destination` of the host, which must exist. Modes,
/// links and times are kept; owners and extended attributes are not, devices and sockets are skipped.
/// Existing files are replaced, existing directories are merged with.
pub(crate) fn copy_tree_to_host(
    root: BorrowedFd<'_>,
    owners: &Owners,
    destination: &Path,
) -> Result<Copied, Error> {
    let tree = Tree {
        root,
        owners,
        origin: Origin::Rootfs,
        ignore: None,
    };
    let failed = |source| Error::Write {
        path: destination.to_owned(),
        source,
    };
    let target = Target {
        directory: Arc::new(sys::fs::open_directory(destination).map_err(failed)?),
        path: destination.to_owned(),
    };
    let mut writer = Writer::new(Rules::Host, None);
    let selection = select(&tree, &["/"], &Filter::default())?;
    for source in &selection.matches {
        if let Match::Directory {
            origin,
            place,
            entries,
        } = source
        {
            writer.merge(*origin, &place.open()?, entries, &target)?;
        }
    }
    let mut copied = writer.copied;
    copied.skipped.extend_from_slice(&selection.skipped);
    Ok(copied)
}
