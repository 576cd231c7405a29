//! Registries that speak the distribution protocol.

use std::io::Read;

use crate::oci::{Descriptor, Platform, Reference};

use super::{Error, Resolved, Source};

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The directory of docker's `config.json`; `None` is `$DOCKER_CONFIG`, then `$HOME/.docker`.
    pub(crate) docker_config: Option<std::path::PathBuf>,
}

struct Registry {
    reference: Reference,
}

/// The image that `reference` names. Nothing is sent before the first call.
pub(crate) fn registry(reference: Reference, options: &Options) -> impl Source + use<> {
    let _ = options;
    Registry { reference }
}

impl Source for Registry {
    fn resolve(&self, _platform: &Platform) -> Result<Resolved, Error> {
        todo!()
    }

    fn open_blob(&self, _descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        todo!()
    }

    fn name(&self) -> String {
        self.reference.whole()
    }
}
