//! Suggestions for misspelt names.

/// The candidate that `word` was most likely meant to be, if any is close enough. Case is ignored.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    todo!()
}
