//! The `#N` of the vertices.

use std::collections::HashMap;

use crate::build::event::VertexId;

/// Gives numbers from 1 on, in the order in which vertices are first heard of.
#[derive(Debug, Default)]
pub(super) struct Numbers(HashMap<VertexId, u32>);

impl Numbers {
    pub(super) fn of(&mut self, id: VertexId) -> u32 {
        let next = u32::try_from(self.0.len()).map_or(u32::MAX, |known| known.saturating_add(1));
        *self.0.entry(id).or_insert(next)
    }
}
