//! A tar that holds an image layout.

use std::io::Read;
use std::path::Path;

use crate::oci::{Descriptor, Platform};

use super::{Error, Resolved, Source};

struct OciArchive;

/// A tar that holds an image layout.
pub(crate) fn oci_archive(file: &Path, tag: Option<&str>) -> Result<impl Source + use<>, Error> {
    let _ = (file, tag);
    Ok(OciArchive)
}

impl Source for OciArchive {
    fn resolve(&self, _platform: &Platform) -> Result<Resolved, Error> {
        todo!()
    }

    fn open_blob(&self, _descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        todo!()
    }

    fn name(&self) -> String {
        todo!()
    }
}
