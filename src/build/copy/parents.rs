//! `COPY --parents`: sources that keep the directories they are in.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::select::{Found, Selector, shown};
use crate::context::glob::has_wildcard;
use crate::context::ignore::clean;

impl Selector<'_, '_> {
    /// Adds what `source` names, below the directory that `/./` marks, or else the root.
    ///
    /// The part before the mark is a source like any other, the part after it an ignore-style pattern
    /// (`**` is any number of directories) that is matched through no links and takes whole
    /// directories. Without a wildcard in either it must match. Where BuildKit finds a pivot with
    /// wildcards to be a file, it copies that file; it is no directory, so here nothing of it matches.
    pub(super) fn add_with_parents(&mut self, source: &str) -> Result<(), Error> {
        let (start, pattern) = source.split_once("/./").unwrap_or(("", source));
        let start = clean(&format!("/{start}"));
        let pattern = clean(&format!("/{pattern}"));
        let pattern = &pattern[1..];
        let components: Vec<&str> = start.split('/').filter(|part| !part.is_empty()).collect();
        let filter = self
            .filter
            .including(pattern)
            .map_err(|source| Error::Rules { source })?;
        if let Some(first) = components.iter().position(|part| has_wildcard(part)) {
            for path in self.wildcard_matches(&components, first)? {
                if let Found::Directory(descent) = self.resolve(&path)? {
                    self.add_directory(&descent, &filter)?;
                }
            }
            return Ok(());
        }
        let start: PathBuf = components.iter().collect();
        let whole = start.join(pattern);
        if !has_wildcard(pattern) {
            self.require(&whole)?;
        }
        let Found::Directory(descent) = self.require(&start)? else {
            return Err(not_found(&whole));
        };
        let found = self.add_directory(&descent, &filter)?;
        // It is there, but behind a link.
        if !found && !has_wildcard(pattern) && !pattern.is_empty() && !self.filter.has_excludes() {
            return Err(not_found(&whole));
        }
        Ok(())
    }
}

fn not_found(path: &Path) -> Error {
    Error::NotFound {
        path: shown(path),
        hidden_by: None,
        suggestion: None,
    }
}
