//! Directories of `RUN --mount=type=cache`: what is in an instance is its commands' business.

use std::path::Path;

use super::{Level, Remedy, Survey, digest_of, is_locked};
use crate::store::Error;
use crate::store::contents::{list, name_of};

impl Survey<'_> {
    pub(super) fn mounts(&mut self) -> Result<(), Error> {
        let mounts = self.view.root.join("cache-mounts");
        self.old_kinds(&mounts)?;
        for &kind in self.view.kinds {
            for place in list(&mounts.join(kind))? {
                let is_named = name_of(&place).and_then(digest_of).is_some();
                if is_named && place.is_dir() {
                    self.instances(&place)?;
                } else {
                    self.stray(&place);
                }
            }
        }
        Ok(())
    }

    fn instances(&mut self, place: &Path) -> Result<(), Error> {
        for path in list(place)? {
            let name = name_of(&path).unwrap_or_default();
            if name == "lock" {
                continue;
            }
            let (number, role) = name.split_once('.').unwrap_or((name, ""));
            let is_dir = path.is_dir();
            match (number.parse::<u64>(), role) {
                (Ok(_), "" | "new") if !is_dir => {
                    let shown = self.shown(&path);
                    let problem = "not a directory";
                    let remedy = Remedy::Remove(path);
                    self.report(Level::Damage, "cache mount", shown, problem, remedy);
                }
                (Ok(_), "new") if !is_locked(&place.join("lock")) => {
                    let shown = self.shown(&path);
                    let problem = "a directory whose maker was killed";
                    let remedy = Remedy::Remove(path);
                    self.report(Level::Leftover, "cache mount", shown, problem, remedy);
                }
                (Ok(_), "" | "new" | "lock" | "old") => {}
                _ => self.stray(&path),
            }
        }
        Ok(())
    }
}
