//! The grammar of `RUN --mount=`.

use super::{
    csv::{self, Field},
    diagnostic::Diagnostic,
    flags::Flag,
    nearest::nearest,
    size::parse_size,
    span::{Span, Spanned},
    words::WordError,
};

/// One `--mount=` flag as written. `resolve` makes the mount of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountFlag {
    /// The whole flag.
    pub(crate) span: Span,
    /// The stage, named context or image of `from=`; it never holds a variable.
    pub(crate) from: Option<Spanned<String>>,
    fields: Vec<Field>,
}

/// One mount with expanded and checked values. Targets are as written: relative ones are joined to
/// the working directory by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunMount {
    Bind(BindMount),
    Cache(CacheMount),
    Tmpfs(TmpfsMount),
    Secret(SecretMount),
    Ssh(SshMount),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindMount {
    /// A stage, named context or image; the build context when `None`.
    pub(crate) from: Option<String>,
    /// Inside `from`; the root when `None`.
    pub(crate) source: Option<String>,
    pub(crate) target: String,
    pub(crate) read_write: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheSharing {
    Shared,
    Private,
    Locked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheMount {
    /// The cleaned target when `None`.
    pub(crate) id: Option<String>,
    pub(crate) target: String,
    pub(crate) sharing: CacheSharing,
    pub(crate) from: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TmpfsMount {
    pub(crate) target: String,
    /// Bytes.
    pub(crate) size: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretMount {
    pub(crate) id: String,
    /// `None` only when `env` is set: the secret is in the environment alone.
    pub(crate) target: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) required: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshMount {
    /// `default` when not written.
    pub(crate) id: String,
    pub(crate) target: Option<String>,
    pub(crate) required: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Every key with the one name that it goes by and the kinds that have it.
const KEYS: [(&str, &str, &[&str]); 20] = [
    ("type", "type", &KINDS),
    ("target", "target", &KINDS),
    ("dst", "target", &KINDS),
    ("destination", "target", &KINDS),
    ("source", "source", &["bind", "cache", "secret"]),
    ("src", "source", &["bind", "cache", "secret"]),
    ("from", "from", &["bind", "cache"]),
    ("id", "id", &["cache", "secret", "ssh"]),
    ("sharing", "sharing", &["cache"]),
    ("readonly", "readonly", &["bind", "cache", "secret", "ssh"]),
    ("ro", "readonly", &["bind", "cache", "secret", "ssh"]),
    ("readwrite", "readwrite", &["bind", "cache", "tmpfs"]),
    ("rw", "readwrite", &["bind", "cache", "tmpfs"]),
    ("required", "required", &["secret", "ssh"]),
    ("env", "env", &["secret"]),
    ("mode", "mode", &["cache", "secret", "ssh"]),
    ("uid", "uid", &["cache", "secret", "ssh"]),
    ("gid", "gid", &["cache", "secret", "ssh"]),
    ("size", "size", &["tmpfs"]),
    ("tmpfs-size", "size", &["tmpfs"]),
];

impl MountFlag {
    /// Reads the fields of a flag and reports what is wrong whatever the variables hold.
    pub(crate) fn parse(flag: &Flag, escape: char) -> Result<Self, Diagnostic> {
        let fields = match &flag.value {
            Some(value) if !value.as_str().is_empty() => csv::parse(value)?,
            _ => {
                return Err(Diagnostic::new(
                    flag.span,
                    "missing a value on flag: --mount",
                ));
            }
        };
        for field in &fields {
            check_key(field)?;
        }
        let from = fields.iter().rfind(|field| field.key == "from");
        let from = from.and_then(|field| field.value.clone());
        if let Some(from) = from.as_ref().filter(|from| from.value.contains('$')) {
            return Err(Diagnostic::new(
                from.span,
                "'from' doesn't support variable expansion, define alias stage instead",
            ));
        }
        let mount = Self {
            span: flag.span,
            from,
            fields,
        };
        let special = ['$', '\'', '"', escape];
        let literal = |field: &Field| {
            field
                .value
                .as_ref()
                .is_none_or(|value| !value.value.contains(special))
        };
        if mount.fields.iter().all(literal) {
            mount.resolve(&mut |value| Ok(value.to_owned()))?;
        }
        Ok(mount)
    }

    /// Expands every value with `expand` and checks the result.
    ///
    /// `parse` has checked a flag without variables already; for it only `expand` can fail.
    pub(crate) fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, WordError>,
    ) -> Result<RunMount, Diagnostic> {
        let mut values = Values {
            flag: self.span,
            kind: "bind",
            fields: Vec::new(),
        };
        for field in &self.fields {
            let key = check_key(field)?;
            let value = match &field.value {
                None => None,
                Some(value) => Some(
                    expand(&value.value)
                        .map_err(|error| Diagnostic::new(value.span, error.to_string()))?,
                ),
            };
            values.fields.push((key, value, field));
        }
        values.resolve()
    }
}

/// The name that the key of `field` goes by.
fn check_key(field: &Field) -> Result<&'static str, Diagnostic> {
    let Some((_, key, _)) = KEYS.iter().find(|(alias, _, _)| *alias == field.key) else {
        if field.value.is_none() {
            let message = format!("invalid field '{}' must be a key=value pair", field.text);
            return Err(Diagnostic::new(field.span, message));
        }
        let mut message = format!("unexpected key '{}' in '{}'", field.key, field.text);
        if let Some(candidate) = nearest(&field.key, KEYS.iter().map(|(alias, _, _)| *alias)) {
            message.push_str(&format!(" (did you mean {candidate}?)"));
        }
        return Err(Diagnostic::new(field.span, message));
    };
    if field.value.is_none() && !matches!(*key, "readonly" | "readwrite" | "required") {
        let message = format!("invalid field '{}' must be a key=value pair", field.text);
        return Err(Diagnostic::new(field.span, message));
    }
    Ok(key)
}

/// The expanded fields of one mount.
struct Values<'a> {
    flag: Span,
    kind: &'static str,
    fields: Vec<(&'static str, Option<String>, &'a Field)>,
}

impl Values<'_> {
    fn resolve(mut self) -> Result<RunMount, Diagnostic> {
        if let Some((kind, field)) = self.last("type") {
            let lower = kind.to_lowercase();
            self.kind = *KINDS.iter().find(|other| **other == lower).ok_or_else(|| {
                let mut message = format!("unsupported mount type {kind:?}");
                if let Some(candidate) = nearest(kind, KINDS) {
                    message.push_str(&format!(" (did you mean {candidate}?)"));
                }
                Diagnostic::new(field.span, message)
            })?;
        }
        self.check_kind()?;
        let target = self.text("target").unwrap_or_default();
        if target.starts_with('/') && target.split('/').all(|part| part.is_empty() || part == ".") {
            let message = format!("invalid mount target {target:?}");
            return Err(Diagnostic::new(self.span_of("target"), message));
        }
        Ok(match self.kind {
            "cache" => RunMount::Cache(self.cache(target)?),
            "tmpfs" => RunMount::Tmpfs(TmpfsMount {
                target,
                size: self.size()?,
            }),
            "secret" => RunMount::Secret(self.secret(target)?),
            "ssh" => RunMount::Ssh(SshMount {
                id: self.text("id").unwrap_or_else(|| "default".to_owned()),
                target: Some(target).filter(|target| !target.is_empty()),
                required: self.boolean("required")?.unwrap_or(false),
                mode: self.number("mode", 8)?,
                uid: self.number("uid", 10)?,
                gid: self.number("gid", 10)?,
            }),
            _ => RunMount::Bind(BindMount {
                from: self.text("from"),
                source: self.text("source"),
                target,
                read_write: self.writable(false)?,
            }),
        })
    }

    /// Reports keys that the kind of mount does not have.
    fn check_kind(&self) -> Result<(), Diagnostic> {
        let kind = self.kind;
        for (_, _, field) in &self.fields {
            let allowed = KEYS
                .iter()
                .any(|(alias, _, kinds)| *alias == field.key && kinds.contains(&kind));
            if allowed {
                continue;
            }
            let key = field.key.as_str();
            let message = match key {
                "mode" | "uid" | "gid" => format!("{key} not allowed for {kind:?} type mounts"),
                "sharing" => format!("invalid cache sharing set for {kind} mount"),
                "from" => format!("{kind} mount should not have a from"),
                _ => format!("unexpected key '{key}' for mount type '{kind}'"),
            };
            return Err(Diagnostic::new(field.span, message));
        }
        Ok(())
    }

    fn cache(&self, target: String) -> Result<CacheMount, Diagnostic> {
        let sharing = match self.last("sharing") {
            None => CacheSharing::Shared,
            Some((value, field)) => match value.to_lowercase().as_str() {
                "shared" => CacheSharing::Shared,
                "private" => CacheSharing::Private,
                "locked" => CacheSharing::Locked,
                _ => {
                    let mut message = format!("unsupported sharing value {value:?}");
                    if let Some(candidate) = nearest(value, ["shared", "private", "locked"]) {
                        message.push_str(&format!(" (did you mean {candidate}?)"));
                    }
                    return Err(Diagnostic::new(field.span, message));
                }
            },
        };
        Ok(CacheMount {
            id: self.text("id"),
            target,
            sharing,
            from: self.text("from"),
            source: self.text("source"),
            mode: self.number("mode", 8)?,
            uid: self.number("uid", 10)?,
            gid: self.number("gid", 10)?,
            read_only: !self.writable(true)?,
        })
    }

    fn secret(&self, target: String) -> Result<SecretMount, Diagnostic> {
        let id = match (self.text("id"), self.text("source")) {
            (Some(_), Some(_)) => {
                let message = "both source and id can't be set";
                return Err(Diagnostic::new(self.span_of("source"), message));
            }
            (id, source) => id
                .or(source)
                .unwrap_or_else(|| base_name(&target).to_owned()),
        };
        if id.is_empty() {
            let message = "invalid secret mount. one of source, target required";
            return Err(Diagnostic::new(self.flag, message).with_help("name the secret: `id=...`"));
        }
        let env = self.text("env");
        let target = if !target.is_empty() {
            Some(target)
        } else if env.is_none() {
            Some(format!("/run/secrets/{}", base_name(&id)))
        } else {
            None
        };
        Ok(SecretMount {
            id,
            target,
            env,
            required: self.boolean("required")?.unwrap_or(false),
            mode: self.number("mode", 8)?,
            uid: self.number("uid", 10)?,
            gid: self.number("gid", 10)?,
        })
    }

    /// The last field of that name; a bare key counts as `true`.
    fn last(&self, name: &str) -> Option<(&str, &Field)> {
        let (_, value, field) = self.fields.iter().rfind(|(key, _, _)| *key == name)?;
        Some((value.as_deref().unwrap_or("true"), field))
    }

    /// A value; an empty one counts as not given.
    fn text(&self, name: &str) -> Option<String> {
        self.last(name)
            .map(|(value, _)| value.to_owned())
            .filter(|value| !value.is_empty())
    }

    fn span_of(&self, name: &str) -> Span {
        self.last(name).map_or(self.flag, |(_, field)| field.span)
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, Diagnostic> {
        self.last(name)
            .map(|(value, field)| boolean(value, field))
            .transpose()
    }

    /// Whichever of `ro` and `rw` is written last counts.
    fn writable(&self, default: bool) -> Result<bool, Diagnostic> {
        let mut writable = default;
        for (key, value, field) in &self.fields {
            let value = value.as_deref().unwrap_or("true");
            match *key {
                "readonly" => writable = !boolean(value, field)?,
                "readwrite" => writable = boolean(value, field)?,
                _ => {}
            }
        }
        Ok(writable)
    }

    fn number(&self, name: &str, radix: u32) -> Result<Option<u32>, Diagnostic> {
        let Some((value, field)) = self.last(name) else {
            return Ok(None);
        };
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = u32::from_str_radix(value, radix).ok().filter(|_| digits);
        number
            .map(Some)
            .ok_or_else(|| Diagnostic::new(field.span, format!("invalid value {value} for {name}")))
    }

    fn size(&self) -> Result<Option<u64>, Diagnostic> {
        let Some((value, field)) = self.last("size") else {
            return Ok(None);
        };
        parse_size(value).map(Some).ok_or_else(|| {
            Diagnostic::new(
                field.span,
                format!("invalid value for {}: {value}", field.key),
            )
            .with_help("write a number with `k`, `m` or `g`, such as `64m`")
        })
    }
}

fn boolean(value: &str, field: &Field) -> Result<bool, Diagnostic> {
    parse_boolean(value).ok_or_else(|| {
        Diagnostic::new(
            field.span,
            format!("invalid value for {}: {value}", field.key),
        )
    })
}

/// The booleans that Go's strconv.ParseBool takes.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
