//! Which step a system call failed in.

use crate::sandbox::spec::{Failure, Step};
use crate::sys;

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
