//! Addresses, as ADD and contexts write them.

use reqwest::Url;

use super::authorization::Authorization;
use super::error::Error;
use super::git_reference::GitReference;

/// Something to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Http(HttpAddress),
    Git(GitReference),
}

/// One file on a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpAddress {
    /// Without user, password and fragment.
    url: Url,
    /// An `Authorization` made of the user and the password that the address had.
    pub(super) authorization: Option<Authorization>,
}

impl Address {
    /// The address that `text` is; `None` when it is a path. As with BuildKit an http(s) address whose
    /// path ends in `.git` is a repository. Unlike with BuildKit, `host:path` without a user is a
    /// path, for a file may have that name, and another scheme is an error, for no file has that.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, Error> {
        if let Some(scheme) = scheme(text) {
            let url = Url::parse(text).map_err(|error| bad(text, error.to_string()))?;
            return match scheme.as_str() {
                "http" | "https" if !url.path().ends_with(".git") => {
                    HttpAddress::of(url, text).map(|http| Some(Self::Http(http)))
                }
                "http" | "https" | "git" | "ssh" => {
                    GitReference::of_url(url, text).map(|git| Some(Self::Git(git)))
                }
                _ => Err(bad(
                    text,
                    "only http, https, git and ssh addresses can be".to_owned(),
                )),
            };
        }
        Ok(GitReference::of_scp(text)?.map(Self::Git))
    }

    /// [`Address::parse`] for a build context, which may be a repository written without its scheme.
    pub(crate) fn parse_context(text: &str) -> Result<Option<Self>, Error> {
        if text.starts_with("github.com/") {
            let url = Url::parse(&format!("https://{text}"))
                .map_err(|error| bad(text, error.to_string()))?;
            return GitReference::of_url(url, text).map(|git| Some(Self::Git(git)));
        }
        Self::parse(text)
    }

    /// The address as messages have it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Http(http) => http.shown(),
            Self::Git(git) => git.shown(),
        }
    }
}

pub(super) fn bad(text: &str, why: String) -> Error {
    Error::Address {
        text: without_password(text),
        why,
    }
}

/// The text of an address, whether it can be taken apart or not, with nothing that may be a password.
pub(crate) fn without_password(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |at| start + at);
    match text[start..end].rfind('@') {
        Some(at) if text[start..start + at].contains(':') => {
            format!("{}xxxxx{}", &text[..start], &text[start + at..])
        }
        _ => text.to_owned(),
    }
}

/// The lower-cased scheme before `://`.
fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let valid = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    valid.then(|| scheme.to_ascii_lowercase())
}

impl HttpAddress {
    fn of(mut url: Url, text: &str) -> Result<Self, Error> {
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad(text, "it names no host".to_owned()));
        }
        url.set_fragment(None);
        let authorization = take_credentials(&mut url, text)?;
        Ok(Self { url, authorization })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The host without the port, as secrets name it.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// What the address calls the file: the last part of its path, decoded; `None` for a path without
    /// one that a file could have.
    pub(crate) fn file_name(&self) -> Option<String> {
        let path = decode(self.url.path())?;
        let name = path.trim_end_matches('/').rsplit('/').next()?;
        let valid = !matches!(name, "" | "." | "..") && !name.contains('\0');
        valid.then(|| name.to_owned())
    }

    /// The address as messages have it.
    pub(crate) fn shown(&self) -> String {
        shown(&self.url)
    }
}

/// A URL for messages.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let has_query = url.query().is_some();
    url.set_query(None);
    url.set_fragment(None);
    // Fails for addresses that cannot have any.
    let _cannot_have_any = url.set_password(None);
    if has_query {
        format!("{url}?…")
    } else {
        url.to_string()
    }
}

/// Takes user and password off an http(s) address, as the header that stands for them.
pub(super) fn take_credentials(url: &mut Url, text: &str) -> Result<Option<Authorization>, Error> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let bad_user = || bad(text, "its user or password is not UTF-8 text".to_owned());
    let user = decode(url.username()).ok_or_else(bad_user)?;
    let password = decode(url.password().unwrap_or_default()).ok_or_else(bad_user)?;
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| bad(text, "it names no host".to_owned()))?;
    Ok(Some(Authorization::basic(&user, &password)))
}

/// Undoes percent-encoding; `None` when the result is no UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .first_chunk::<2>()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match digits {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_path_a_file_or_a_repository() {
        for (text, kind) in [
            ("dir/file", "path"),
            ("./git@host:x", "path"),
            ("host:path", "path"),
            ("a@b", "path"),
            ("http://h/x", "http"),
            ("https://h/x.tar.gz?a=b", "http"),
            ("https://h/x.git/", "http"),
            ("HTTPS://h/x", "http"),
            ("https://h/x.git", "git"),
            ("http://h/x.git#main:sub", "git"),
            ("git://h/x", "git"),
            ("ssh://git@h:22/x", "git"),
            ("git@h:x/y", "git"),
            ("github.com/a/b", "path"),
            ("ftp://h/x", "error"),
            ("file:///etc/passwd", "error"),
            ("ext::sh -c true", "path"),
            ("https:///x", "http"),
        ] {
            let found = match Address::parse(text) {
                Ok(None) => "path",
                Ok(Some(Address::Http(_))) => "http",
                Ok(Some(Address::Git(_))) => "git",
                Err(_) => "error",
            };
            assert_eq!(found, kind, "{text}");
        }
        assert!(matches!(
            Address::parse_context("github.com/a/b#v1"),
            Ok(Some(Address::Git(_)))
        ));
    }

    #[test]
    fn a_file_is_called_as_the_last_part_of_its_path() {
        for (text, name) in [
            ("https://h/a/b.txt?x=/y#z", Some("b.txt")),
            ("https://h/a/b/", Some("b")),
            ("https://h/", None),
            ("https://h", None),
            ("https://h/a%20b", Some("a b")),
            ("https://h/a%2Fb", Some("b")),
            ("https://h/a%2F..", None),
            ("https://h/a%00b", None),
        ] {
            let Ok(Some(Address::Http(address))) = Address::parse(text) else {
                panic!("{text}");
            };
            assert_eq!(address.file_name().as_deref(), name, "{text}");
        }
    }

    #[test]
    fn passwords_and_queries_stay_out_of_messages() {
        let Ok(Some(address)) = Address::parse("https://me:hunter2@h/x?signature=s3cret") else {
            panic!("an address");
        };
        assert_eq!(address.shown(), "https://h/x?…");
        let error = Address::parse("ftp://me:hunter2@h/x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let Ok(Some(Address::Http(http))) = Address::parse("https://me:hun%3Ater2@h/x") else {
            panic!("an address");
        };
        assert_eq!(
            http.authorization,
            Some(Authorization::basic("me", "hun:ter2"))
        );
    }
}
