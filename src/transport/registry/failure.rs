//! What a registry's refusals mean, and when to ask again.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::transport::Error;

/// The pauses between the tries of a request, and so their number.
pub(super) const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// A registry that wants to be left alone for longer (`Retry-After`) is asked again after this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const ANSWER: usize = 300;

/// How a try of a request ended.
#[derive(Debug)]
pub(super) enum Failure {
    Final(Error),
    /// The same may succeed a moment later, or when the registry says.
    Transient(Error, Option<Duration>),
}

/// Makes a request again where that may help, after a pause or when the registry says.
pub(super) async fn retry<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut pauses = PAUSES.iter();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient(error, wanted)) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause_of(*pause, wanted)).await,
                None => return Err(error),
            },
        }
    }
}

/// How long to wait: what the registry wants (`Retry-After`), within limits, or else `pause`.
pub(super) fn pause_of(pause: Duration, wanted: Option<Duration>) -> Duration {
    wanted.map_or(pause, |wanted| wanted.min(LONGEST_PAUSE))
}

/// The pause of a `Retry-After` (RFC 9110, 10.2.3): so many seconds, or until a time; none for one that
/// is past.
pub(super) fn wanted_pause(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    let until = SystemTime::from(parser.parse_timestamp(text.trim()).ok()?);
    Some(until.duration_since(now).unwrap_or_default())
}

/// The errors of an answer (distribution-spec, "Error Codes").
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry says with a status that is no success.
pub(super) fn message(status: u16, body: &[u8]) -> String {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let said: Vec<&str> = answer
        .errors
        .iter()
        .map(|problem| match problem.message.as_str() {
            "" => problem.code.as_str(),
            message => message,
        })
        .filter(|text| !text.is_empty())
        .collect();
    match said.as_slice() {
        [] => format!("status {status}"),
        said => format!("status {status}: {}", said.join("; ")),
    }
}

/// A registry's text: cut, and without what a terminal would act upon.
pub(super) fn printable(answer: &str) -> String {
    answer
        .chars()
        .filter(|char| !char.is_control())
        .take(ANSWER)
        .collect()
}

/// The reason at the bottom of a client's error; the layers above only say that a request was sent, and
/// its address may carry a signature.
pub(super) fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_in_seconds_or_as_a_time_when_to_come_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        for (text, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:05 GMT", Some(5)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(wanted_pause(text, now), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_is_repeated_without_what_acts_on_a_terminal() {
        for (body, expected) in [
            (&b""[..], "status 400"),
            (b"<html>", "status 400"),
            (
                br#"{"errors":[{"code":"A","message":"no"},{"code":"B"}]}"#,
                "status 400: no; B",
            ),
        ] {
            assert_eq!(message(400, body), expected);
        }
        assert_eq!(printable("a\u{1b}[31mb\n"), "a[31mb");
        assert_eq!(printable(&"x".repeat(1000)).len(), ANSWER);
    }
}
