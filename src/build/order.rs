//! The order in which stages may read each other.

use std::collections::BTreeSet;

use super::plan::Plan;
use crate::dockerfile::Diagnostic;

impl Plan {
    /// Every stage reads only earlier ones, and none reads itself.
    pub(super) fn check_order(&self) -> Result<(), Vec<Diagnostic>> {
        if let Some(index) = self.find_circle() {
            let stage = &self.stages[index];
            let message = format!(
                "circular dependency detected on stage: {}",
                self.name_of(index)
            );
            return Err(vec![Diagnostic::new(stage.from_span, message)]);
        }
        let mut errors = Vec::new();
        for stage in &self.stages {
            for step in &stage.steps {
                for from in step.stages().filter(|from| *from > stage.index) {
                    let verb = match step.from {
                        Some(_) => "copy",
                        None => "mount",
                    };
                    let message = format!(
                        "cannot {verb} from stage \"{}\", it needs to be defined before current \
                         stage \"{}\"",
                        self.name_of(from),
                        self.name_of(stage.index),
                    );
                    errors.push(
                        Diagnostic::new(step.location, message)
                            .with_related(self.stages[from].from_span, "it is defined here"),
                    );
                }
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    fn name_of(&self, index: usize) -> String {
        self.stages[index]
            .name
            .clone()
            .unwrap_or_else(|| index.to_string())
    }

    /// The first stage that can be reached from itself.
    fn find_circle(&self) -> Option<usize> {
        (0..self.stages.len()).find(|start| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<usize> = self.stages[*start].dependencies.iter().copied().collect();
            while let Some(index) = next.pop() {
                if index == *start {
                    return true;
                }
                if seen.insert(index) {
                    next.extend(&self.stages[index].dependencies);
                }
            }
            false
        })
    }
}
