//! The corpora of `fuzz/corpus`, and what a few changes make of their files.

use std::fs;
use std::path::Path;

use super::{TARGETS, run};

/// Changed files that each target is given.
const CHANGED: usize = 600;

/// Numbers that look like chance and are always the same (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % below.max(1)
    }

    /// `data` with one to four changes; `other` lends a piece.
    fn changed(&mut self, data: &[u8], other: &[u8]) -> Vec<u8> {
        let mut data = data.to_vec();
        for _ in 0..=self.next(4) {
            let at = self.next(data.len() + 1);
            let end = (at + 1 + self.next(16)).min(data.len());
            match self.next(6) {
                0 => drop(data.drain(at..end)),
                1 => {
                    let piece = data[at..end].to_vec();
                    data.splice(at..at, piece);
                }
                2 => {
                    let start = self.next(other.len());
                    let stop = (start + 1 + self.next(64)).min(other.len());
                    data.splice(at..at, other[start..stop].iter().copied());
                }
                3 => data.truncate(at),
                4 if at < data.len() => data[at] ^= 1 << self.next(8),
                _ if at < data.len() => data[at] = u8::try_from(self.next(256)).unwrap(),
                _ => {}
            }
        }
        data
    }
}

/// The files of a target's corpus, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let directory = Path::new(&root).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Says which input it was when a target panics.
struct Named<'a>(&'a str, &'a [u8]);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{} does not hold for {:?}",
                self.0,
                self.1.escape_ascii().to_string()
            );
        }
    }
}

fn replay(target: &str) {
    let files = corpus(target);
    assert!(!files.is_empty(), "{target} has no corpus");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let changed: Vec<Vec<u8>> = (0..CHANGED)
        .map(|number| {
            let other = numbers.next(files.len());
            numbers.changed(&files[number % files.len()], &files[other])
        })
        .collect();
    for data in files.iter().chain(&changed) {
        let named = Named(target, data);
        run(target, data);
        drop(named);
    }
}

/// A test for each target, so that they run beside one another.
macro_rules! replays {
    ($($name:ident: $target:literal),*) => {
        $(#[test]
        fn $name() {
            replay($target);
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$($target),*];
            assert_eq!(TARGETS.map(|(name, _)| name), replayed);
        }
    };
}

replays! {
    any_dockerfile_is_parsed_or_refused: "dockerfile",
    any_documents_are_an_image_or_refused: "document",
    any_word_is_expanded_or_refused: "expansion",
    any_ignore_file_means_what_its_definition_says: "ignore",
    any_archive_stays_in_its_root: "layer",
    any_record_is_read_or_ignored: "record",
    any_name_is_what_it_prints: "reference"
}
