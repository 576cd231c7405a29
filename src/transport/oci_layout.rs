//! A directory in the image layout (image-spec, image-layout.md).

use std::io::Read;
use std::path::Path;

use crate::oci::{Descriptor, Platform};

use super::{Error, Resolved, Source};

struct OciLayout;

/// A directory in the image layout (image-spec, image-layout.md).
pub(crate) fn oci_layout(dir: &Path, selector: Option<&str>) -> Result<impl Source + use<>, Error> {
    let _ = (dir, selector);
    Ok(OciLayout)
}

impl Source for OciLayout {
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
