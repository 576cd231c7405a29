//! The value of `--platform`.

use crate::oci::Platform;

/// One platform: `local` is this machine's.
pub(super) fn parse(text: &str) -> Result<Platform, String> {
    let mut names = text.split(',').map(str::trim);
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(format!(
            "--platform {text:?} names several platforms, which one build cannot do yet: run one \
             build for each"
        ));
    };
    if name == "local" {
        return Ok(Platform::host());
    }
    name.parse().map_err(|error| format!("--platform: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_platform_is_taken_and_several_are_refused() {
        assert_eq!(parse("local").unwrap(), Platform::host());
        assert_eq!(parse("linux/arm").unwrap().to_string(), "linux/arm/v7");
        for (text, why) in [
            ("linux/amd64,linux/arm64", "several platforms"),
            ("", "platform specifier"),
            ("a/b/c/d", "cannot parse"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
