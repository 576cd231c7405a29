//! The value of `--platform`.

use crate::oci::Platform;
use crate::remote::parse_bool;

/// One platform: `local` is this machine's.
pub(super) fn parse(text: &str) -> Result<Platform, String> {
    match text.trim() {
        name if name.contains(',') => Err(format!(
            "--platform {text:?} names several platforms, and one can be had here"
        )),
        "local" => Ok(Platform::host()),
        name => name.parse().map_err(|error| format!("--platform: {error}")),
    }
}

/// Platforms in the order given, each once. A text may have several, with commas between them.
pub(super) fn parse_several(texts: &[String]) -> Result<Vec<Platform>, String> {
    let mut platforms: Vec<Platform> = Vec::new();
    for name in texts.iter().flat_map(|text| text.split(',')) {
        let platform = parse(name)?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// Whether the build makes an index: of several platforms, or as the build argument for it says.
pub(super) fn makes_index(
    build_args: &[(String, String)],
    platforms: usize,
) -> Result<bool, String> {
    let mut given = build_args.iter().rev();
    let given = given.find(|(name, _)| name == "BUILDKIT_MULTI_PLATFORM");
    match given.map(|(_, value)| value.as_str()) {
        None | Some("") => Ok(platforms > 1),
        Some(value) => match parse_bool(value) {
            Some(false) if platforms > 1 => Err(format!(
                "BUILDKIT_MULTI_PLATFORM={value} allows one platform, and {platforms} are asked for"
            )),
            Some(wanted) => Ok(wanted),
            None => Err(format!(
                "BUILDKIT_MULTI_PLATFORM={value} is neither true nor false"
            )),
        },
    }
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

    #[test]
    fn lists_and_repeated_options_name_several_platforms_each_once() {
        let several = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            let found = parse_several(&texts)?;
            Ok::<_, String>(found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let two = ["linux/amd64", "linux/arm64"].map(str::to_owned);
        assert_eq!(several(&["linux/amd64,linux/arm64"]).unwrap(), two);
        assert_eq!(several(&["linux/amd64", " linux/arm64/v8"]).unwrap(), two);
        assert_eq!(
            several(&["linux/amd64,linux/x86_64", "linux/aarch64"]).unwrap(),
            two
        );
        assert_eq!(several(&[]).unwrap(), [""; 0]);
        assert!(several(&["linux/amd64,"]).is_err());
    }
}
