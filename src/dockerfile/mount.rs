//! The grammar of `RUN --mount=`.

use super::{
    diagnostic::Diagnostic,
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
    fields: Vec<MountField>,
}

/// `key=value` or a bare `key` of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MountField {
    /// In lower case.
    key: Spanned<String>,
    value: Option<Spanned<String>>,
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

impl MountFlag {
    /// Expands every value with `expand` and checks the result.
    ///
    /// A flag without `$` was checked by `parse` already; for it only `expand` can fail.
    pub(crate) fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, WordError>,
    ) -> Result<RunMount, Diagnostic> {
        todo!()
    }
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
