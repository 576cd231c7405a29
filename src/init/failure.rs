//! Which step failed.

use crate::sandbox::spec::{Failure, Step};
use crate::sys;

/// The failure of something that was more than one system call.
pub(super) fn unspecific(step: Step, error: &std::io::Error) -> Failure {
    Failure {
        step,
        errno: error.raw_os_error().unwrap_or(0),
        detail: error.to_string(),
    }
}

/// Adds the step to an error.
pub(super) trait At<T> {
    fn at(self, step: Step) -> Result<T, Failure>;
}

impl<T> At<T> for sys::Result<T> {
    fn at(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step,
            errno: error.errno as i32,
            detail: error.to_string(),
        })
    }
}
