//! The signals of STOPSIGNAL.

/// Names without `SIG`, with those of Linux on every architecture.
const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether `text` names a signal as STOPSIGNAL takes it: a positive number, or a name in any case
/// with or without `SIG`, real-time ones as `RTMIN+n` and `RTMAX-n`.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u8| {
        name.strip_prefix(prefix)
            .and_then(|offset| offset.parse::<u8>().ok())
            .is_some_and(|offset| (1..=most).contains(&offset))
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

/// The names to suggest from.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_names_or_numbers() {
        for text in [
            "SIGTERM",
            "TERM",
            "sigterm",
            "kill",
            "9",
            "64",
            "SIGRTMIN+3",
            "RTMAX-14",
            "RTMIN",
        ] {
            assert!(is_signal(text), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "65",
            "SIG",
            "TERMINATE",
            "RTMIN+16",
            "RTMIN+",
            "RTMAX-0",
        ] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
