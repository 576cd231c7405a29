//! Looking for secrets in a layer while it is written or read.

use std::io::{self, Write};

use super::{Found, Leak, Leaks, Patterns, Search, SecretScan, is_line_end};
use crate::build::error::StepError;
use crate::layer::{Follower, Part};

/// Takes the tar of a layer in pieces and finds secrets in its members. Memory does not grow with the
/// layer.
#[derive(Debug)]
pub(crate) struct LayerScan<'a> {
    patterns: &'a Patterns,
    follower: Follower,
    member: Member,
    leaks: Vec<Leak>,
}

/// What is known of the member that comes.
#[derive(Debug, Default)]
struct Member {
    plain: Search,
    encoded: Search,
    found: Found,
}

/// What leaks beyond these are only counted as.
const MOST: usize = 1000;

impl<'a> LayerScan<'a> {
    pub(crate) fn new(patterns: &'a Patterns) -> Self {
        Self {
            patterns,
            follower: Follower::default(),
            member: Member::default(),
            leaks: Vec::new(),
        }
    }

    /// Ends the layer: the leaks to warn of, or the error that they are.
    pub(crate) fn finish(mut self) -> Result<Vec<Leak>, StepError> {
        let (patterns, member, leaks) = (self.patterns, &mut self.member, &mut self.leaks);
        self.follower
            .finish(&mut |part| take(patterns, member, leaks, part));
        if self.patterns.action == SecretScan::Fail && !self.leaks.is_empty() {
            return Err(StepError::Leak {
                leaks: Leaks(self.leaks),
            });
        }
        Ok(self.leaks)
    }
}

impl Write for LayerScan<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (patterns, member, leaks) = (self.patterns, &mut self.member, &mut self.leaks);
        self.follower
            .push(bytes, &mut |part| take(patterns, member, leaks, part));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn take(patterns: &Patterns, member: &mut Member, leaks: &mut Vec<Leak>, part: Part<'_>) {
    match part {
        Part::Bytes(bytes) => {
            member.plain.push(&patterns.plain, bytes, &mut member.found);
            let joined: Vec<u8> = bytes
                .iter()
                .copied()
                .filter(|byte| !is_line_end(*byte))
                .collect();
            member
                .encoded
                .push(&patterns.encoded, &joined, &mut member.found);
        }
        Part::End(path) => {
            let found = std::mem::take(member).found;
            for found in found {
                if leaks.len() < MOST {
                    leaks.push(patterns.leak(found, format!("/{}", patterns.shown(path))));
                }
            }
        }
    }
}
