//! One JSON object per line, for programs.
//!
//! Every object has `time` (RFC 3339, UTC) and `type`; all but `built`, and a `warning` or `phase` of the
//! build as a whole, have `vertex`, a number from 1 on in order of appearance. The rest by `type`:
//!
//! | type | fields |
//! |---|---|
//! | `started` | `name`: what the vertex does |
//! | `cached` | none; the vertex ends |
//! | `log` | `stream`: `stdout` or `stderr`; `text`: bytes as they came, cut anywhere between characters; what is not UTF-8 is U+FFFD |
//! | `progress` | `label`: the part; `done`, and `total` if known: bytes |
//! | `finished` | `label`: the part; `seconds`: how long it took |
//! | `phase` | `phase`: what was done; `seconds`: how long it took; `bytes` and `files` that it went through, where known. One phase may come several times. Without `vertex` it is of the command as a whole |
//! | `warning` | `message` |
//! | `done` | none; the vertex ends |
//! | `failed` | `message`; the vertex ends |
//! | `canceled` | none; the vertex ends |
//! | `built` | `image`: the image's digest, if there is one |
//!
//! The phases are `start` (of the command), `pull` and `unpack` (of a base), `key` (with the look into the
//! cache), `sandbox`, `command` and `teardown` (of a RUN), `write` (of COPY, ADD and WORKDIR), `capture`,
//! `compress` (as far as capturing waits for it) and `publish` (of a layer), and `behind`: what was left to
//! compress while the next steps ran. That line comes after the vertex's end, which its time is no part of.
//!
//! Later versions may add types and fields; they change no meaning.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::numbers::Numbers;
use super::{View, write_all};
use crate::build::event::{Event, Stream, VertexId};
use crate::build::log_lines::{cut_character, visible_json};

pub(super) struct RawJson<W: Write> {
    output: W,
    began: Timestamp,
    numbers: Numbers,
    /// Beginnings of characters whose ends are still to come.
    cut: HashMap<(VertexId, &'static str), Vec<u8>>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vertex: Option<u32>,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum What<'a> {
    Started {
        name: &'a str,
    },
    Cached,
    Log {
        stream: &'static str,
        text: &'a str,
    },
    Progress {
        label: &'a str,
        done: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    Finished {
        label: &'a str,
        seconds: f64,
    },
    Phase {
        phase: &'static str,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        files: Option<u64>,
    },
    Warning {
        message: &'a str,
    },
    Done,
    Failed {
        message: &'a str,
    },
    Canceled,
    Built {
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<&'a str>,
    },
}

impl<W: Write> RawJson<W> {
    /// Times are those of `began` and later.
    pub(super) fn new(output: W, began: Timestamp) -> Self {
        Self {
            output,
            began,
            numbers: Numbers::default(),
            cut: HashMap::new(),
        }
    }

    fn write(&mut self, id: Option<VertexId>, what: What<'_>, now: Duration) {
        let time = SignedDuration::try_from(now)
            .ok()
            .and_then(|elapsed| self.began.checked_add(elapsed).ok())
            .unwrap_or(self.began);
        let line = Line {
            time: format!("{time:.3}"),
            vertex: id.map(|id| self.numbers.of(id)),
            what,
        };
        let text = serde_json::to_string(&line).expect("a line has only plain fields");
        let mut text = visible_json(text);
        text.push('\n');
        write_all(&mut self.output, text.as_bytes());
    }

    fn write_log(&mut self, id: VertexId, stream: Stream, bytes: &[u8], now: Duration) {
        let stream = name_of(stream);
        let mut whole = self.cut.remove(&(id, stream)).unwrap_or_default();
        whole.extend_from_slice(bytes);
        let rest = whole.split_off(whole.len() - cut_character(&whole));
        if !rest.is_empty() {
            self.cut.insert((id, stream), rest);
        }
        if !whole.is_empty() {
            let text = &String::from_utf8_lossy(&whole);
            self.write(Some(id), What::Log { stream, text }, now);
        }
    }

    fn write_end(&mut self, id: VertexId, what: What<'_>, now: Duration) {
        for stream in [Stream::Stdout, Stream::Stderr].map(name_of) {
            if let Some(rest) = self.cut.remove(&(id, stream)) {
                let text = &String::from_utf8_lossy(&rest);
                self.write(Some(id), What::Log { stream, text }, now);
            }
        }
        self.write(Some(id), what, now);
    }
}

fn name_of(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

impl<W: Write> View for RawJson<W> {
    fn show(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Started { id, name } => self.write(Some(*id), What::Started { name }, now),
            Event::Cached { id } => self.write_end(*id, What::Cached, now),
            Event::Log { id, stream, bytes } => self.write_log(*id, *stream, bytes, now),
            Event::Progress {
                id,
                label,
                done,
                total,
            } => {
                let (done, total) = (*done, *total);
                self.write(Some(*id), What::Progress { label, done, total }, now);
            }
            Event::Finished { id, label, took } => {
                let seconds = took.as_secs_f64();
                self.write(Some(*id), What::Finished { label, seconds }, now);
            }
            Event::Spent { id, spent } => {
                let phase = What::Phase {
                    phase: spent.phase.name(),
                    seconds: spent.took.as_secs_f64(),
                    bytes: spent.bytes,
                    files: spent.files,
                };
                self.write(*id, phase, now);
            }
            Event::Warning { id, message } => self.write(*id, What::Warning { message }, now),
            Event::Done { id } => self.write_end(*id, What::Done, now),
            Event::Failed { id, message } => self.write_end(*id, What::Failed { message }, now),
            Event::Canceled { id } => self.write_end(*id, What::Canceled, now),
            Event::Built { image_id } => {
                let image = image_id.as_ref().map(|digest| digest.as_str());
                self.write(None, What::Built { image }, now);
            }
        }
    }

    fn tick(&mut self, _now: Duration) {
        drop(self.output.flush());
    }

    fn finish(&mut self, _now: Duration) {
        drop(self.output.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::event::{Phase, Spent};
    use crate::oci::Digest;

    #[test]
    fn every_event_is_one_object_of_the_schema() {
        let id = VertexId(40);
        let euro = "€".as_bytes();
        let log = |bytes: &[u8]| Event::Log {
            id,
            stream: Stream::Stderr,
            bytes: bytes.to_vec(),
        };
        let events = [
            Event::Started {
                id,
                name: "[1/2] FROM \"x\"".to_owned(),
            },
            log(&[b"a\x1b\xff", &euro[..1]].concat()),
            log(&euro[1..]),
            Event::Progress {
                id,
                label: "sha256:ab".to_owned(),
                done: 5,
                total: None,
            },
            Event::Progress {
                id,
                label: "sha256:ab".to_owned(),
                done: 6,
                total: Some(9),
            },
            Event::Finished {
                id,
                label: "sha256:ab".to_owned(),
                took: Duration::from_millis(1500),
            },
            Event::Spent {
                id: Some(id),
                spent: Spent {
                    files: Some(2),
                    ..Spent::new(Phase::Capture, Duration::from_millis(500))
                },
            },
            Event::Spent {
                id: None,
                spent: Spent::new(Phase::Start, Duration::from_millis(2)),
            },
            Event::Warning {
                id: None,
                message: "odd".to_owned(),
            },
            log(&euro[..2]),
            Event::Done { id },
            Event::Cached { id: VertexId(2) },
            Event::Failed {
                id: VertexId(3),
                message: "no".to_owned(),
            },
            Event::Canceled { id: VertexId(4) },
            Event::Built { image_id: None },
            Event::Built {
                image_id: Some(Digest::of(b"")),
            },
        ];
        let mut output = Vec::new();
        let mut view = RawJson::new(&mut output, Timestamp::UNIX_EPOCH);
        for event in &events {
            view.show(event, Duration::from_millis(250));
        }
        view.finish(Duration::from_secs(1));
        let expected = r#"
"vertex":1,"type":"started","name":"[1/2] FROM \"x\""}
"vertex":1,"type":"log","stream":"stderr","text":"a\u001b�"}
"vertex":1,"type":"log","stream":"stderr","text":"€"}
"vertex":1,"type":"progress","label":"sha256:ab","done":5}
"vertex":1,"type":"progress","label":"sha256:ab","done":6,"total":9}
"vertex":1,"type":"finished","label":"sha256:ab","seconds":1.5}
"vertex":1,"type":"phase","phase":"capture","seconds":0.5,"files":2}
"type":"phase","phase":"start","seconds":0.002}
"type":"warning","message":"odd"}
"vertex":1,"type":"log","stream":"stderr","text":"�"}
"vertex":1,"type":"done"}
"vertex":2,"type":"cached"}
"vertex":3,"type":"failed","message":"no"}
"vertex":4,"type":"canceled"}
"type":"built"}
"type":"built","image":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
"#;
        let text = String::from_utf8(output).unwrap();
        let rests: Vec<&str> = text
            .lines()
            .map(|line| {
                line.strip_prefix(r#"{"time":"1970-01-01T00:00:00.250Z","#)
                    .unwrap()
            })
            .collect();
        assert_eq!(rests, expected.trim().lines().collect::<Vec<_>>());
    }
}
