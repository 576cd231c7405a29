//! A tar as docker save writes it.

use std::io::Read;
use std::path::Path;

use crate::oci::{Descriptor, Platform};

use super::{Error, Resolved, Source};

struct DockerArchive;

/// A tar as docker save writes it.
pub(crate) fn docker_archive(
    file: &Path,
    name: Option<&str>,
) -> Result<impl Source + use<>, Error> {
    let _ = (file, name);
    Ok(DockerArchive)
}

impl Source for DockerArchive {
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
