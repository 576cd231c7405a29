//! No progress at all; only the final report is written, by somebody else.

use std::time::Duration;

use super::View;
use crate::build::event::Event;

pub(super) struct Quiet;

impl View for Quiet {
    fn show(&mut self, _event: &Event, _now: Duration) {}
    fn tick(&mut self, _now: Duration) {}
    fn finish(&mut self, _now: Duration) {}
}
