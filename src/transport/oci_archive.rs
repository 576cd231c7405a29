//! A tar that holds an image layout.

use std::path::Path;

use super::archive::Archive;
use super::oci_layout::{Files, Layout, LayoutFile};
use super::{Error, Source};

/// The image in the archived layout `file` that `tag` names, as [`super::oci_layout`] does.
pub(crate) fn oci_archive(
    file: &Path,
    selector: Option<&str>,
) -> Result<impl Source + use<>, Error> {
    Layout::open(Archive::open(file)?, file, selector)
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Option<LayoutFile>, Error> {
        Ok(self.member(name).map(|section| LayoutFile {
            size: section.size(),
            bytes: Box::new(section),
        }))
    }
}
