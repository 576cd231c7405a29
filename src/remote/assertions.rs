//! What holds for every address, however odd; the fuzz target asks it.

use super::{Address, GitReference};

/// An address that is understood gives git no options and no paths outside of the repository, and a
/// file a name that stays in its directory.
pub(crate) fn address_holds(text: &str) {
    for parsed in [Address::parse(text), Address::parse_context(text)] {
        match parsed {
            Ok(Some(Address::Git(git))) => git_holds(&git),
            Ok(Some(Address::Http(http))) => {
                assert!(!http.host().is_empty());
                assert!(http.url().password().is_none() && http.url().username().is_empty());
                drop(http.shown());
                if let Some(name) = http.file_name() {
                    assert!(
                        !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0'])
                    );
                }
            }
            Ok(None) | Err(_) => {}
        }
    }
}

fn git_holds(git: &GitReference) {
    assert!(!git.remote.starts_with('-') && !git.host.starts_with('-'));
    let reference = git.reference.as_deref().unwrap_or_default();
    assert!(!reference.starts_with('-'), "{reference:?}");
    assert!(!git.subdir.starts_with('/'));
    let mut names = git.subdir.split('/');
    assert!(
        !names.any(|name| matches!(name, "." | "..")),
        "{}",
        git.subdir
    );
    drop(git.shown());
}
