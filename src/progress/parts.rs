//! The parts of a vertex, such as the blobs of a pull, as lines that are not too many.

use std::collections::HashMap;
use std::time::Duration;

use super::units::{amount, seconds};
use crate::build::log_lines::visible;

/// A byte count is repeated after this much time, or earlier if this share of its total was gained,
/// as BuildKit does.
const REPEAT_AFTER: Duration = Duration::from_secs(5);
const REPEAT_PERCENT: u128 = 5;
/// Never more often than this: a fast pull of many blobs would fill the log.
const REPEAT_AT_MOST: Duration = Duration::from_secs(1);

/// The parts of one vertex that are under way, by label.
#[derive(Default)]
pub(super) struct Parts(HashMap<String, Part>);

struct Part {
    began: Duration,
    shown: Duration,
    shown_done: u64,
    done: u64,
    total: Option<u64>,
}

impl Parts {
    /// The line for a part that got further, unless one was given just before.
    pub(super) fn advance(
        &mut self,
        label: &str,
        done: u64,
        total: Option<u64>,
        now: Duration,
    ) -> Option<String> {
        let is_new = !self.0.contains_key(label);
        let part = self.0.entry(label.to_owned()).or_insert(Part {
            began: now,
            shown: now,
            shown_done: done,
            done,
            total,
        });
        part.done = done;
        part.total = total;
        if !is_new && !part.is_due(now) {
            return None;
        }
        part.shown = now;
        part.shown_done = done;
        let label = visible(label);
        if done == 0 && total.is_none() {
            return Some(label.into_owned());
        }
        let took = seconds(now.saturating_sub(part.began));
        Some(format!("{label} {} {took}", amount(done, total)))
    }

    /// The line for a part that is over.
    pub(super) fn finish(&mut self, label: &str, took: Duration) -> String {
        let bytes = match self.0.remove(label) {
            Some(part) if part.done > 0 => format!(" {}", amount(part.done, part.total)),
            _ => String::new(),
        };
        format!("{}{bytes} {} done", visible(label), seconds(took))
    }
}

impl Part {
    fn is_due(&self, now: Duration) -> bool {
        let gained = u128::from(self.done.saturating_sub(self.shown_done));
        let moved = |total| gained > 0 && gained * 100 >= u128::from(total) * REPEAT_PERCENT;
        let quiet = now.saturating_sub(self.shown);
        quiet >= REPEAT_AFTER || (quiet >= REPEAT_AT_MOST && self.total.is_some_and(moved))
    }
}
