//! What a registry asks of whom it does not let in (RFC 9110, 11.6.1), and the tokens that it takes
//! (distribution's token and OAuth 2 specifications).

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;

use crate::transport::credentials::Credential;

/// Tokens that do not say how long they live have this many seconds (token specification).
const LIFETIME: u64 = 60;
/// A token is replaced so many seconds before its end.
const MARGIN: u64 = 10;

/// What is shown to the registry instead of a password, until it expires.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: String,
    /// When to get another one from the same server.
    pub(super) until: Instant,
    pub(super) realm: Url,
    pub(super) service: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Token {
    /// Reads a token server's answer; `None` when there is no token in it.
    pub(super) fn parse(bytes: &[u8], realm: Url, service: Option<String>) -> Option<Self> {
        let answer: Answer = serde_json::from_slice(bytes).ok()?;
        let value = answer.token.or(answer.access_token)?;
        // It becomes a header's value.
        HeaderValue::from_str(&value)
            .ok()
            .filter(|_| !value.is_empty())?;
        let lifetime = answer.expires_in.unwrap_or(LIFETIME).clamp(1, 86_400);
        let usable = lifetime.saturating_sub(MARGIN).max(lifetime / 2);
        Some(Self {
            value,
            until: Instant::now() + Duration::from_secs(usable),
            realm,
            service,
        })
    }
}

/// The request for a token: with a password as basic authentication, with an identity token as a form.
pub(super) fn request(
    http: &Client,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
) -> RequestBuilder {
    if let Some(Credential::IdentityToken(token)) = credential {
        let mut form = Url::parse("form:").expect("a scheme is an address");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", "rbuild")
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token);
        let body = form.query().unwrap_or_default().to_owned();
        return http
            .post(realm.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
    }
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    let get = http.get(url);
    match credential {
        Some(Credential::Password { user, password }) => get.basic_auth(user, Some(password)),
        _ => get,
    }
}

/// A `WWW-Authenticate` that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The first scheme that is known; a token is preferred to a password.
    pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for header in headers {
            let (scheme, parameters) = header.split_once(' ').unwrap_or((header, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let realm = parameter(parameters, "realm");
                if let Some(realm) = realm {
                    let service = parameter(parameters, "service");
                    return Some(Self::Bearer { realm, service });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

/// The value of `name` in `a="b",c=d`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim_matches([' ', ',']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

/// Whether the token server `realm` may see the password for the registry at `base`.
///
/// It may when it is the registry's host, a host of the same domain (`auth.example.org` for
/// `registry.example.org`, and that domain itself), Docker Hub's, or one that the configuration names
/// in `token-hosts`. What a domain is, is told without a list of public suffixes: the registry's name
/// without its first label, unless a single label or something like `co.uk` is left. A realm in the
/// clear gets no password from a registry that is spoken to in TLS.
pub(super) fn may_see_password(base: &Url, realm: &Url, allowed: &[String]) -> bool {
    if base.scheme() == "https" && realm.scheme() != "https" {
        return false;
    }
    let (Some(registry), Some(server)) = (base.host_str(), realm.host_str()) else {
        return false;
    };
    if registry == server || allowed.iter().any(|host| host == server) {
        return true;
    }
    if registry == "registry-1.docker.io" {
        return server == "auth.docker.io";
    }
    if !matches!(base.domain(), Some(name) if !name.ends_with("localhost")) {
        return false;
    }
    let Some((_, domain)) = registry.split_once('.') else {
        return false;
    };
    let is_below = |name: &str, domain: &str| {
        name.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    is_below(server, registry) || (!is_public_suffix(domain) && is_below(server, domain))
}

fn is_public_suffix(domain: &str) -> bool {
    match domain.rsplit_once('.') {
        None => true,
        Some((second, country)) => !second.contains('.') && country.len() == 2 && second.len() <= 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (headers, expected) in [
            (&["Basic realm=\"x\""][..], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &["Bearer realm=\"https://a/t\",service=\"s, t\",scope=\"repository:a:pull\""],
                bearer("https://a/t", Some("s, t")),
            ),
            (
                &["Basic realm=x", "bearer service=s, realm=\"https://a/t\""],
                bearer("https://a/t", Some("s")),
            ),
            (&["Bearer service=\"s\""], None),
            (&["Bearer realm=\"unfinished"], None),
            (&["Negotiate"], None),
            (&[], None),
        ] {
            assert_eq!(
                Challenge::parse(headers.iter().copied()),
                expected,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_token_server_elsewhere_sees_no_password() {
        let allowed = ["login.other.test".to_owned()];
        for (base, realm, expected) in [
            ("https://ghcr.io/", "https://ghcr.io/token", true),
            (
                "https://registry-1.docker.io/",
                "https://auth.docker.io/token",
                true,
            ),
            (
                "https://registry-1.docker.io/",
                "https://evil.docker.io/token",
                false,
            ),
            (
                "https://registry.gitlab.com/",
                "https://gitlab.com/jwt/auth",
                true,
            ),
            ("https://r.example.org/", "https://auth.example.org/", true),
            ("https://example.org/", "https://auth.example.org/", true),
            ("https://r.example.org/", "http://auth.example.org/", false),
            ("https://r.example.org/", "https://evilexample.org/", false),
            ("https://r.example.org/", "https://evil.test/", false),
            ("https://r.example.org/", "https://login.other.test/", true),
            ("https://example.org/", "https://evil.org/", false),
            ("https://shop.co.uk/", "https://evil.co.uk/", false),
            ("https://r.shop.co.uk/", "https://auth.shop.co.uk/", true),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/t", true),
            ("http://127.0.0.1:5000/", "http://128.0.0.1/", false),
            ("http://localhost:5000/", "http://127.0.0.1:5000/", false),
            ("https://10.1.2.3/", "https://9.1.2.3/", false),
        ] {
            let parse = |text: &str| Url::parse(text).unwrap();
            let found = may_see_password(&parse(base), &parse(realm), &allowed);
            assert_eq!(found, expected, "{base} {realm}");
        }
    }
}
