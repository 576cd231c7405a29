//! What the next step has to know of a root file system, found out while this step is carried out.

use super::add::{CopyStep, Known};
use super::engine::Engine;
use super::plan::{CopyFrom, Step};
use super::source_tree::SourceTree;
use super::state::StageState;
use crate::dockerfile::Instruction;
use crate::oci::Platform;

/// A COPY from a stage that is built, after a step that does not change how it is to be read.
pub(super) struct Ahead<'a> {
    engine: &'a Engine<'a>,
    platform: &'a Platform,
    copy: CopyStep,
    from: usize,
}

impl<'a> Ahead<'a> {
    /// `next` comes after `step`; `state` is as it is before `step`. What is wrong with `next` is no
    /// matter here.
    pub(super) fn of(
        engine: &'a Engine<'a>,
        platform: &'a Platform,
        (step, next): (&Step, Option<&Step>),
        state: &StageState,
    ) -> Option<Self> {
        let next = next?;
        let Instruction::Copy(_) = step.statement.instruction else {
            return None;
        };
        let (Instruction::Copy(instruction), Some(CopyFrom::Stage(from))) =
            (&next.statement.instruction, &next.from)
        else {
            return None;
        };
        let copy = CopyStep::new(instruction, None, state, engine.plan.escape).ok()?;
        Some(Self {
            engine,
            platform,
            copy,
            from: *from,
        })
    }

    /// Reads the files. `None` when that is left to the step.
    pub(super) fn find_out(&self) -> Option<Known> {
        let stage = self.engine.result_there(self.from)?;
        let source = SourceTree::rootfs(self.engine.store, &stage.snapshot).ok()?;
        self.copy.know(self.engine.store, &source, self.platform)
    }
}
