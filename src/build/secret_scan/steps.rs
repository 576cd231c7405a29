//! Where the steps of a build are looked through.

use super::{LayerScan, Leak, Leaks, SecretScan};
use crate::build::commit::read_layer;
use crate::build::engine::Engine;
use crate::build::error::StepError;
use crate::build::event::{Event, VertexId};
use crate::oci::ImageConfig;
use crate::store::{CacheRecord, Snapshot};

impl Engine<'_> {
    /// Looks through the layer of a step on `below` that is not carried out again: who made it may not have
    /// looked.
    pub(crate) fn scan_cached(
        &self,
        id: VertexId,
        record: &CacheRecord,
        below: &Snapshot,
    ) -> Result<(), StepError> {
        let (Some(patterns), Some(diff_id)) = (&self.shared.scan, &record.diff_id) else {
            return Ok(());
        };
        let chain_id = record.chain_id.as_ref();
        let snapshot = self.store.snapshot_above(chain_id, below)?;
        let mut scan = LayerScan::new(patterns);
        read_layer(self.store, &snapshot, diff_id, self.clamp, &mut scan)?;
        self.warn_of_leaks(id, &scan.finish()?);
        Ok(())
    }

    /// Warns of what was found in the layer of a step.
    pub(crate) fn warn_of_leaks(&self, id: VertexId, leaks: &[Leak]) {
        self.warn(Some(id), leaks.to_vec());
    }

    /// Looks for secrets that `config` has and `before` did not have.
    pub(crate) fn scan_config(
        &self,
        config: &ImageConfig,
        before: &ImageConfig,
    ) -> Result<(), StepError> {
        let Some(patterns) = &self.shared.scan else {
            return Ok(());
        };
        if config == before {
            return Ok(());
        }
        let known = patterns.in_config(before);
        let mut leaks = patterns.in_config(config);
        leaks.retain(|leak| !known.contains(leak));
        if patterns.action == SecretScan::Fail && !leaks.is_empty() {
            return Err(StepError::Leak {
                leaks: Leaks(leaks),
            });
        }
        self.warn(None, leaks);
        Ok(())
    }

    fn warn(&self, id: Option<VertexId>, leaks: Vec<Leak>) {
        if !leaks.is_empty() {
            let message = Leaks(leaks).to_string();
            self.events.send(Event::Warning { id, message });
        }
    }
}
