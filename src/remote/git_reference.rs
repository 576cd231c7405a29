//! Which tree of which git repository, as BuildKit writes it.

use reqwest::Url;

use super::address::{bad, decode, take_credentials};
use super::authorization::Authorization;
use super::error::Error;

/// A tree of a repository: `REMOTE[#REF[:SUBDIR]]`, or with a query instead of the fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitReference {
    /// What git is told, without credentials, query and fragment.
    pub(crate) remote: String,
    pub(crate) transport: Transport,
    /// The host, with its port where one is written.
    pub(crate) host: String,
    /// An `Authorization` made of the user and the password that an http(s) address had.
    pub(super) authorization: Option<Authorization>,
    /// A branch, a tag or a whole commit id; the default branch when there is none.
    pub(crate) reference: Option<String>,
    /// Hexadecimal digits that the commit's id must begin with.
    pub(crate) checksum: Option<String>,
    /// Relative, without `.` and `..`; empty for the whole tree.
    pub(crate) subdir: String,
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) submodules: bool,
    pub(crate) mtime: Mtime,
    /// The commit is taken from the server without asking what the reference is now.
    pub(crate) fetch_by_commit: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Https,
    Git,
    Ssh,
}

/// The modification times of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mtime {
    /// The time of the commit. BuildKit does so on request only, and without it uses the time of the
    /// checkout; any time is right then, and this one is always the same.
    Commit,
    /// `mtime=checkout`.
    Checkout,
}

impl Transport {
    /// How git calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Git => "git",
            Self::Ssh => "ssh",
        }
    }
}

impl GitReference {
    /// The repository at `url`, which was written as `text`.
    pub(super) fn of_url(mut url: Url, text: &str) -> Result<Self, Error> {
        let transport = match url.scheme() {
            "http" => Transport::Http,
            "https" => Transport::Https,
            "git" => Transport::Git,
            _ => Transport::Ssh,
        };
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() || host.starts_with('-') {
            return Err(bad(text, "it names no host".to_owned()));
        }
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let fragment = decode(url.fragment().unwrap_or_default());
        let fragment = fragment.ok_or_else(|| bad(text, "it is not UTF-8 text".to_owned()))?;
        let query = pairs(&url);
        url.set_fragment(None);
        url.set_query(None);
        let authorization = match transport {
            Transport::Http | Transport::Https => take_credentials(&mut url, text)?,
            Transport::Git | Transport::Ssh => None,
        };
        if url.password().is_some() {
            let why = format!("{} has no passwords in addresses", transport.name());
            return Err(bad(text, why));
        }
        let mut reference = Self::new(String::from(url), transport, host);
        reference.authorization = authorization;
        reference.set_fragment(&fragment);
        reference.set_query(&query, text)?;
        reference.check(text)?;
        Ok(reference)
    }

    /// `user@host:path`; `None` for other text.
    pub(super) fn of_scp(text: &str) -> Result<Option<Self>, Error> {
        let is_word = |text: &str, more: &[u8]| {
            !text.is_empty()
                && !text.starts_with('-')
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        let Some((user, rest)) = text.split_once('@') else {
            return Ok(None);
        };
        let Some((host, rest)) = rest.split_once(':') else {
            return Ok(None);
        };
        if !is_word(user, b"-_") || !is_word(host, b"-.") {
            return Ok(None);
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path.starts_with('-') {
            return Err(bad(text, "it names no repository".to_owned()));
        }
        let query = Url::parse(&format!("git://host/?{query}"))
            .map(|url| pairs(&url))
            .map_err(|error| bad(text, error.to_string()))?;
        let remote = format!("{user}@{host}:{path}");
        let mut reference = Self::new(remote, Transport::Ssh, host.to_owned());
        reference.set_fragment(fragment);
        reference.set_query(&query, text)?;
        reference.check(text)?;
        Ok(Some(reference))
    }

    fn new(remote: String, transport: Transport, host: String) -> Self {
        Self {
            remote,
            transport,
            host,
            authorization: None,
            reference: None,
            checksum: None,
            subdir: String::new(),
            keep_git_dir: None,
            submodules: true,
            mtime: Mtime::Commit,
            fetch_by_commit: false,
        }
    }

    fn set_fragment(&mut self, fragment: &str) {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        self.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
        subdir.clone_into(&mut self.subdir);
    }

    fn set_query(&mut self, query: &[(String, String)], text: &str) -> Result<(), Error> {
        let fail = |why: String| Err(bad(text, why));
        let (mut tag, mut branch) = (None, None);
        for (index, (key, value)) in query.iter().enumerate() {
            if query[..index].iter().any(|(there, _)| there == key) {
                return fail(format!("query {key:?} has multiple values"));
            }
            let may_be_empty = matches!(
                key.as_str(),
                "submodules" | "keep-git-dir" | "fetch-by-commit"
            );
            if value.is_empty() && !may_be_empty {
                return fail(format!("query {key:?} has no value"));
            }
            let flag = || match value.as_str() {
                "" => Ok(true),
                value => parse_bool(value)
                    .ok_or_else(|| bad(text, format!("invalid {key} value: {value:?}"))),
            };
            match key.as_str() {
                "ref" => self.set_reference(value.clone(), text)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "subdir" if !self.subdir.is_empty() && self.subdir != *value => {
                    return fail(format!("subdir conflicts: {:?} vs {value:?}", self.subdir));
                }
                "subdir" => self.subdir.clone_from(value),
                "checksum" | "commit" => self.checksum = Some(value.clone()),
                "keep-git-dir" => self.keep_git_dir = Some(flag()?),
                "submodules" => self.submodules = flag()?,
                "fetch-by-commit" => self.fetch_by_commit = flag()?,
                "mtime" => {
                    self.mtime = match value.as_str() {
                        "commit" => Mtime::Commit,
                        "checkout" => Mtime::Checkout,
                        _ => return fail(format!("invalid mtime value: {value:?}")),
                    }
                }
                _ => return fail(format!("unexpected query {key:?}")),
            }
        }
        if tag.is_some() && branch.is_some() {
            return fail("branch conflicts with tag".to_owned());
        }
        for (name, prefix) in [(tag, "refs/tags/"), (branch, "refs/heads/")] {
            if let Some(name) = name {
                let short = name.strip_prefix(prefix).unwrap_or(name);
                self.set_reference(format!("{prefix}{short}"), text)?;
            }
        }
        if self.reference.is_none() {
            self.reference.clone_from(&self.checksum);
        }
        Ok(())
    }

    fn set_reference(&mut self, reference: String, text: &str) -> Result<(), Error> {
        match &self.reference {
            Some(there) if *there != reference => Err(bad(
                text,
                format!("ref conflicts: {there:?} vs {reference:?}"),
            )),
            _ => {
                self.reference = Some(reference);
                Ok(())
            }
        }
    }

    /// Refuses what git could take for something else than a name.
    fn check(&mut self, text: &str) -> Result<(), Error> {
        if let Some(reference) = &self.reference
            && !is_reference_name(reference)
        {
            let why = format!("{reference:?} cannot be the name of a branch or a tag");
            return Err(bad(text, why));
        }
        if let Some(checksum) = &mut self.checksum {
            if !is_checksum(checksum) {
                let why = format!("invalid checksum {checksum}, expected hex commit hash");
                return Err(bad(text, why));
            }
            checksum.make_ascii_lowercase();
        }
        if self.fetch_by_commit && !self.checksum.as_deref().is_some_and(is_commit) {
            let why = "fetch-by-commit needs a whole commit id".to_owned();
            return Err(bad(text, why));
        }
        if self.subdir.contains('\0') || self.subdir.split('/').any(|part| part == "..") {
            let why = format!("{:?} leads out of the repository", self.subdir);
            return Err(bad(text, why));
        }
        let parts = self.subdir.split('/');
        let parts: Vec<&str> = parts.filter(|part| !matches!(*part, "" | ".")).collect();
        self.subdir = parts.join("/");
        Ok(())
    }

    /// The repository as messages have it.
    pub(crate) fn shown(&self) -> String {
        match &self.reference {
            Some(reference) => format!("{}#{reference}", self.remote),
            None => self.remote.clone(),
        }
    }
}

fn pairs(url: &Url) -> Vec<(String, String)> {
    url.query_pairs()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}

/// What Go's `strconv.ParseBool` takes.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Whether `text` is a whole commit id, of SHA-1 or SHA-256.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_checksum(text)
}

fn is_checksum(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What git-check-ref-format(1) allows, and no option.
fn is_reference_name(text: &str) -> bool {
    let is_bad =
        |char: char| char.is_control() || char.is_whitespace() || "~^:?*[\\".contains(char);
    !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.ends_with(".lock")
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && !text.contains(is_bad)
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::*;

    fn parse(text: &str) -> Result<GitReference, String> {
        match Address::parse(text) {
            Ok(Some(Address::Git(git))) => Ok(git),
            Ok(other) => panic!("{text}: {other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_reference_has_a_remote_a_ref_and_a_directory() {
        for (text, remote, reference, subdir) in [
            ("https://h/r.git", "https://h/r.git", None, ""),
            (
                "https://h:8443/r.git#v1",
                "https://h:8443/r.git",
                Some("v1"),
                "",
            ),
            (
                "https://h/r.git#a/b:c/d",
                "https://h/r.git",
                Some("a/b"),
                "c/d",
            ),
            ("https://h/r.git#:c/./d/", "https://h/r.git", None, "c/d"),
            ("git://h/r#x", "git://h/r", Some("x"), ""),
            ("ssh://git@h:22/r#x", "ssh://git@h:22/r", Some("x"), ""),
            ("git@h:a/r.git#x:y", "git@h:a/r.git", Some("x"), "y"),
            (
                "https://h/r.git?tag=v1&subdir=/s",
                "https://h/r.git",
                Some("refs/tags/v1"),
                "s",
            ),
            (
                "git@h:r?branch=refs/heads/m",
                "git@h:r",
                Some("refs/heads/m"),
                "",
            ),
            (
                "https://h/r.git?ref=a%2Fb",
                "https://h/r.git",
                Some("a/b"),
                "",
            ),
            (
                "https://h/r.git?commit=AB12",
                "https://h/r.git",
                Some("AB12"),
                "",
            ),
        ] {
            let git = parse(text).unwrap();
            assert_eq!(
                (
                    git.remote.as_str(),
                    git.reference.as_deref(),
                    git.subdir.as_str()
                ),
                (remote, reference, subdir),
                "{text}"
            );
        }
    }

    #[test]
    fn options_stand_in_the_query() {
        let git =
            parse("https://h/r.git?keep-git-dir=1&submodules=false&commit=ABC&mtime=checkout")
                .unwrap();
        assert_eq!(git.keep_git_dir, Some(true));
        assert!(!git.submodules);
        assert_eq!(git.checksum.as_deref(), Some("abc"));
        assert_eq!(git.mtime, Mtime::Checkout);
        assert_eq!(
            parse("git@h:r?keep-git-dir").unwrap().keep_git_dir,
            Some(true)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("https://h/r.git?x=y", "unexpected query \"x\""),
            ("https://h/r.git?ref=", "query \"ref\" has no value"),
            ("https://h/r.git?ref=a&ref=b", "has multiple values"),
            ("https://h/r.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            (
                "https://h/r.git?tag=a&branch=b",
                "branch conflicts with tag",
            ),
            (
                "https://h/r.git?submodules=maybe",
                "invalid submodules value",
            ),
            ("https://h/r.git?checksum=xyz", "invalid checksum xyz"),
            (
                "https://h/r.git#--upload-pack=x",
                "name of a branch or a tag",
            ),
            ("https://h/r.git#a:../..", "leads out of the repository"),
            (
                "https://h/r.git?fetch-by-commit&commit=ab",
                "whole commit id",
            ),
            ("ssh://git:secret@h/r", "no passwords"),
            ("ssh://-oProxyCommand=x/r", ""),
            ("git@h:", "names no repository"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_are_not_part_of_the_remote() {
        let git = parse("https://me:hunter2@h/r.git#x").unwrap();
        assert_eq!(git.remote, "https://h/r.git");
        assert_eq!(
            git.authorization,
            Some(Authorization::basic("me", "hunter2"))
        );
        assert!(!git.shown().contains("hunter2"));
    }
}
