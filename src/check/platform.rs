//! What is known only when the base image is there.

use super::Finding;
use super::rule::INVALID_BASE_IMAGE_PLATFORM;
use crate::dockerfile::{Diagnostic, FromLine};
use crate::oci::Platform;

/// The finding for a base image that is for another platform than the stage.
pub(crate) fn base_platform(
    name: &str,
    from: &FromLine,
    expected: &Platform,
    actual: &Platform,
) -> Option<Finding> {
    if expected.os == actual.os && expected.architecture == actual.architecture {
        return None;
    }
    let message = format!(
        "Base image {name} was pulled with platform \"{actual}\", expected \"{expected}\" for \
         current build"
    );
    Some(Finding {
        rule: &INVALID_BASE_IMAGE_PLATFORM,
        diagnostic: Diagnostic::new(from.span, message),
        lines: (from.line, from.line + from.text.matches('\n').count()),
    })
}
