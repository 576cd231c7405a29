//! What has a fixed place in every store, and what may be left of killed runs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Level, Part, Remedy, Survey, VERSION, is_locked};
use crate::store::contents::{list, name_of};
use crate::store::tags::{self, OCI_LAYOUT};
use crate::store::{DIRECTORIES, Error, RESERVE, RESERVED, STUB};

impl Survey<'_> {
    /// Whether the store has the format that this program knows, or none, which can be mended.
    pub(super) fn version(&mut self) -> Result<bool, Error> {
        let path = self.view.root.join("version");
        let (problem, remedy) = match fs::read(&path) {
            Ok(found) if found == VERSION.as_bytes() => return Ok(true),
            Ok(found) if found.trim_ascii().is_empty() => {
                ("empty".to_owned(), Remedy::Remake(Part::Version))
            }
            Ok(found) => {
                let found = String::from_utf8_lossy(&found);
                let found: String = found.trim().chars().take(40).collect();
                let remedy = Remedy::Nothing("left to the program that made it");
                (format!("the store has format {found:?}, not 1"), remedy)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.is_unmade()? {
                    let problem = "the run that was making the store was killed";
                    let remedy = Remedy::Nothing("the next build makes it");
                    self.report(Level::Leftover, "store", ".", problem, remedy);
                    return Ok(false);
                }
                ("missing".to_owned(), Remedy::Remake(Part::Version))
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let goes_on = !matches!(remedy, Remedy::Nothing(_));
        self.report(Level::Damage, "version", "version", problem, remedy);
        Ok(goes_on)
    }

    /// Whether nothing was ever put into the store, whose version is the last that is made of it.
    fn is_unmade(&self) -> Result<bool, Error> {
        let is_empty = |name: &str| Ok(list(&self.view.root.join(name))?.is_empty());
        let names_none =
            tags::read_index(&self.view.root).map_or(true, |index| index.manifests.is_empty());
        Ok(names_none && is_empty("oci/blobs/sha256")? && is_empty("snapshots")?)
    }

    pub(super) fn layout(&mut self) -> Result<(), Error> {
        let root = &self.view.root;
        let metadata = fs::metadata(root).map_err(Error::io("look at", root))?;
        if metadata.mode() & 0o077 != 0 {
            let problem = format!(
                "others may enter it (mode {:o}), and run the set-user-ID programs of layers",
                metadata.mode() & 0o7777
            );
            let remedy = Remedy::Remake(Part::Mode);
            self.report(Level::Damage, "mode", ".", problem, remedy);
        }
        for name in DIRECTORIES {
            let path = self.view.root.join(name);
            if !path.is_dir() {
                let remedy = Remedy::Directory(path);
                self.report(Level::Damage, "layout", name, "missing", remedy);
            }
        }
        self.oci_layout()?;
        self.stub();
        self.reserve();
        for path in list(&self.view.root)? {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(b".new-") {
                self.stray(&path);
            }
        }
        self.scratch()
    }

    fn oci_layout(&mut self) -> Result<(), Error> {
        let directory = self.view.root.join("oci");
        if fs::read(directory.join("oci-layout")).is_ok_and(|found| found == OCI_LAYOUT) {
            // As it should be.
        } else {
            let remedy = Remedy::Remake(Part::OciLayout);
            let place = "oci/oci-layout";
            self.report(Level::Damage, "layout", place, "missing or damaged", remedy);
        }
        for path in list(&directory)? {
            if !name_of(&path)
                .is_some_and(|name| ["blobs", "index.json", "oci-layout"].contains(&name))
            {
                self.stray(&path);
            }
        }
        for path in list(&directory.join("blobs"))? {
            if name_of(&path) != Some("sha256") {
                self.stray(&path);
            }
        }
        Ok(())
    }

    /// The layer below every RUN: only what it is made with, for every command sees it.
    fn stub(&mut self) {
        let stub = self.view.root.join("stub");
        let mut problem = None;
        for (path, is_file) in STUB {
            let place = stub.join(path);
            let mode = if is_file { 0o100_644 } else { 0o040_755 };
            match fs::symlink_metadata(&place) {
                Ok(metadata) if metadata.mode() != mode => {
                    problem = Some(format!("{path:?} has mode {:o}", metadata.mode()));
                }
                Ok(metadata) if is_file && metadata.len() != 0 => {
                    problem = Some(format!("{path:?} has content"));
                }
                Ok(_) => {}
                Err(error) => problem = Some(format!("{path:?}: {error}")),
            }
            for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
                let entry = entry.path();
                let inner = entry.strip_prefix(&stub).unwrap_or(&entry);
                if !STUB.iter().any(|(known, _)| Path::new(known) == inner) {
                    problem = Some(format!("{} does not belong there", inner.display()));
                }
            }
        }
        if let Some(problem) = problem {
            let remedy = Remedy::Remake(Part::Stub);
            self.report(Level::Damage, "stub", "stub", problem, remedy);
        }
    }

    fn reserve(&mut self) {
        let length = fs::metadata(self.view.root.join(RESERVE)).map(|metadata| metadata.len());
        let problem = match length {
            Ok(length) if length == RESERVED as u64 => return,
            Ok(length) => format!("it has {length} bytes, not {RESERVED}"),
            Err(_) => "there is no space for it, or was none".to_owned(),
        };
        let remedy = Remedy::Remake(Part::Reserve);
        self.report(Level::Leftover, "reserve", RESERVE, problem, remedy);
    }

    /// `tmp`: what belongs to nobody who lives.
    fn scratch(&mut self) -> Result<(), Error> {
        for path in list(&self.view.root.join("tmp"))? {
            let is_lock = path
                .extension()
                .is_some_and(|extension| extension == "lock");
            let lock = if is_lock {
                path.clone()
            } else {
                path.with_extension("lock")
            };
            if !is_locked(&lock) && path.exists() {
                let place = self.shown(&path);
                let problem = "of a process that is gone";
                let remedy = Remedy::Remove(path);
                self.report(Level::Leftover, "leftover", place, problem, remedy);
            }
        }
        Ok(())
    }
}
