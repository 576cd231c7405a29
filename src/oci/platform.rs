//! What an image runs on: system, architecture, variant, in Go's words (`GOOS`, `GOARCH`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Systems and architectures that may stand alone in a platform's name, as containerd knows them.
const SYSTEMS: [&str; 12] = [
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "android",
    "plan9",
];
const ARCHITECTURES: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc",
    "ppc64", "ppc64le", "riscv64", "s390x", "sparc64", "wasm",
];

/// What a manifest runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) os_version: Option<String>,
    #[serde(flatten)]
    pub(crate) other: BTreeMap<String, serde_json::Value>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlatformError {
    #[error("{0:?}: cannot parse platform specifier")]
    Parts(String),
    #[error(
        "{component:?} is an invalid component of {text:?}: platform specifier component must \
         match \"^[A-Za-z0-9_.-]+$\""
    )]
    Component { component: String, text: String },
    #[error("{0:?}: unknown operating system or architecture")]
    Unknown(String),
}

impl Platform {
    pub(crate) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            os_version: None,
            other: BTreeMap::new(),
        }
    }

    /// The platform this program was built for.
    pub(crate) fn host() -> Self {
        match std::env::consts::ARCH {
            "x86_64" => Self::new("linux", "amd64", None),
            // containerd and docker write arm64 without its only variant, v8.
            "aarch64" => Self::new("linux", "arm64", None),
            other => Self::new("linux", other, None),
        }
    }

    /// One spelling for each platform: uname's names become Go's, a variant that the architecture
    /// means anyway is dropped, and 32-bit ARM always has one (containerd's `Normalize`).
    pub(crate) fn normalized(mut self) -> Self {
        self.os = self.os.to_lowercase();
        if self.os == "macos" {
            self.os = "darwin".to_owned();
        }
        let variant = self.variant.unwrap_or_default().to_lowercase();
        let architecture = self.architecture.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        self.architecture = architecture.to_owned();
        self.variant = Some(variant.to_owned()).filter(|variant| !variant.is_empty());
        self
    }

    /// Whether an image for `self` runs where `wanted` is asked for.
    pub(crate) fn satisfies(&self, wanted: &Self) -> bool {
        self.distance(wanted).is_some()
    }

    /// How far an image for `self` is from what `wanted` asks for, 0 being exactly it; `None` when
    /// it does not run there. Older variants of an architecture run on newer ones.
    pub(crate) fn distance(&self, wanted: &Self) -> Option<u32> {
        let (own, wanted) = (self.clone().normalized(), wanted.clone().normalized());
        if own.os != wanted.os || own.architecture != wanted.architecture {
            return None;
        }
        let level = |platform: &Self| match (platform.architecture.as_str(), &platform.variant) {
            ("amd64", None) => Some(1),
            ("arm64", None) => Some(8),
            (_, Some(variant)) => variant.strip_prefix('v')?.parse::<u32>().ok(),
            _ => None,
        };
        match (level(&own), level(&wanted)) {
            (Some(own), Some(wanted)) => wanted.checked_sub(own),
            _ if own.variant == wanted.variant => Some(0),
            _ if own.variant.is_none() || wanted.variant.is_none() => Some(1),
            _ => None,
        }
    }

    /// Whether both name the same system and architecture, whatever the variant.
    pub(crate) fn same_machine(&self, other: &Self) -> bool {
        let (own, other) = (self.clone().normalized(), other.clone().normalized());
        own.os == other.os && own.architecture == other.architecture
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// `os`, `arch`, `os/arch` or `os/arch/variant`, with `os(version)` for the first; what is left
    /// out is this machine's (containerd's `platforms.Parse`).
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 {
            return Err(PlatformError::Parts(text.to_owned()));
        }
        let (os, version) = match parts[0]
            .strip_suffix(')')
            .and_then(|head| head.split_once('('))
        {
            Some((os, version)) => (os, Some(version)),
            None => (parts[0], None),
        };
        for component in [os].iter().chain(&parts[1..]) {
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            if component.is_empty() || !component.bytes().all(valid) {
                return Err(PlatformError::Component {
                    component: (*component).to_owned(),
                    text: text.to_owned(),
                });
            }
        }
        let host = Self::host();
        let mut platform = match parts[1..] {
            [] => {
                let alone = Self::new(&host.os, os, None).normalized();
                if SYSTEMS.contains(&os.to_lowercase().as_str()) {
                    Self::new(os, &host.architecture, None)
                } else if ARCHITECTURES.contains(&alone.architecture.as_str()) {
                    alone
                } else {
                    return Err(PlatformError::Unknown(text.to_owned()));
                }
            }
            [architecture] => Self::new(os, architecture, None),
            [architecture, variant, ..] => Self::new(os, architecture, Some(variant)),
        };
        platform.os_version = version.map(str::to_owned);
        Ok(platform.normalized())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_one_spelling() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("s390x", "linux/s390x"),
            ("i386", "linux/386"),
            ("Linux/AMD64", "linux/amd64"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), expected, "{text}");
        }
        let host = Platform::host();
        let alone: Platform = "windows".parse().unwrap();
        assert_eq!(alone, Platform::new("windows", &host.architecture, None));
    }

    #[test]
    fn other_texts_are_no_platforms() {
        for (text, message) in [
            ("", "\"\" is an invalid component of \"\""),
            ("linux/", "\"\" is an invalid component of \"linux/\""),
            ("linux/a b", "\"a b\" is an invalid component"),
            ("linux/$X", "\"$X\" is an invalid component"),
            ("a/b/c/d", "cannot parse platform specifier"),
            ("commodore", "unknown operating system or architecture"),
        ] {
            let error = text.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_older_variant_runs_on_a_newer_one_and_not_the_other_way() {
        for (image, wanted, distance) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v3", Some(2)),
            ("linux/amd64/v2", "linux/amd64/v3", Some(1)),
            ("linux/amd64/v3", "linux/amd64", None),
            ("linux/arm/v6", "linux/arm", Some(1)),
            ("linux/arm/v7", "linux/arm/v6", None),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/s390x", "linux/amd64", None),
            ("windows/amd64", "linux/amd64", None),
            ("linux/riscv64/rva20", "linux/riscv64", Some(1)),
            ("linux/riscv64/rva20", "linux/riscv64/rva22", None),
        ] {
            let parse = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(
                parse(image).distance(&parse(wanted)),
                distance,
                "{image} for {wanted}"
            );
        }
    }
}
