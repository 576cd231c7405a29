//! COPY and ADD: the steps that write files without running anything.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::add_remote::{self, Brought, Remotes};
use super::copy::{
    Archives, ChmodSpec, Copied, Destination, Filter, Selection, Tree, Unpack, add, copy, select,
    select_with_parents,
};
use super::error::StepError;
use super::fetch::Fetch;
use super::key::KeyBuilder;
use super::owner;
use super::source_tree::SourceTree;
use super::state::StageState;
use crate::context::digest::Memo;
use crate::dockerfile::{AddInstruction, CopyInstruction, Source, Spanned, expand_heredoc};
use crate::layer::{Decoder, Form, Limits, is_tar, unpack_as};
use crate::oci::{ChainId, Digest, Platform};
use crate::store::{Active, Store};
use crate::sys;

/// A COPY or ADD whose words are expanded.
#[derive(Debug)]
pub(crate) struct CopyStep {
    paths: Vec<String>,
    /// Name and content.
    inline: Vec<(String, Vec<u8>)>,
    destination: String,
    is_directory: bool,
    chown: Option<String>,
    mode: Option<(String, ChmodSpec)>,
    /// What an ADD fetches; `None` for a COPY.
    remotes: Option<Remotes>,
    /// What becomes of archives; `None` for COPY.
    unpack: Option<Unpack>,
    /// `--link`: written into an empty directory, whatever is below.
    pub(crate) is_linked: bool,
    with_parents: bool,
    excludes: Vec<String>,
    filter: Filter,
    /// The instruction as the history shows it.
    pub(crate) shown: String,
}

/// The digest of the content of a selection, before the step that asks for it.
#[derive(Debug)]
pub(crate) struct Known {
    selection: Digest,
    content: Digest,
}

impl CopyStep {
    /// `add` is `None` for COPY.
    pub(crate) fn new(
        instruction: &CopyInstruction,
        add: Option<&AddInstruction>,
        state: &StageState,
        escape: char,
    ) -> Result<Self, StepError> {
        let expand = |word: &str| {
            state
                .scope
                .expand(word, escape)
                .map(|expanded| expanded.value)
                .map_err(|source| StepError::Word { source })
        };
        let mut paths = Vec::new();
        let mut inline = Vec::new();
        let mut shown = vec![if add.is_some() { "ADD" } else { "COPY" }.to_owned()];
        let optional = |word: &Option<Spanned<String>>| {
            let word = word.as_ref();
            word.map(|word| expand(&word.value)).transpose()
        };
        let chown = optional(&instruction.chown)?;
        let chmod = optional(&instruction.chmod)?;
        if instruction.parents {
            shown.push("--parents".to_owned());
        }
        let excludes = instruction
            .excludes
            .iter()
            .map(|word| expand(&word.value))
            .collect::<Result<Vec<_>, _>>()?;
        let filter = Filter::excluding(&excludes).map_err(|source| StepError::Value {
            message: format!("invalid excludepatterns: {source}"),
        })?;
        shown.extend(chown.iter().map(|chown| format!("--chown={chown}")));
        shown.extend(chmod.iter().map(|chmod| format!("--chmod={chmod}")));
        for source in &instruction.sources {
            match source {
                Source::Path(word) => {
                    let path = expand(&word.value)?;
                    // This goes into the image.
                    shown.push(match path.contains("://") {
                        true => crate::remote::without_password(&path),
                        false => path.clone(),
                    });
                    paths.push(path);
                }
                Source::Heredoc(heredoc) => {
                    let mut text = heredoc.contents();
                    if heredoc.expand {
                        text = expand_heredoc(&text, &state.scope)
                            .map_err(|source| StepError::Word { source })?
                            .value;
                    }
                    shown.push(format!("<<{}", heredoc.name));
                    inline.push((heredoc.name.clone(), text.into_bytes()));
                }
            }
        }
        let remotes = match add {
            Some(add) => {
                let checksum = add.checksum.as_ref().map(|word| expand(&word.value));
                let checksum = checksum.transpose()?;
                Some(Remotes::new(add, &paths, checksum.as_deref())?)
            }
            None => match paths.iter().find_map(|path| add_remote::refuse_copy(path)) {
                Some(message) => return Err(StepError::Value { message }),
                None => None,
            },
        };
        let written = expand(&instruction.destination.value)?;
        shown.push(written.clone());
        let mode = chmod.map(parse_mode).transpose()?;
        Ok(Self {
            is_linked: is_linked(instruction.link, chown.as_deref(), mode.is_some())?,
            unpack: add.map(|add| unpack_of(add.unpack)),
            with_parents: instruction.parents,
            excludes,
            filter,
            paths,
            inline,
            is_directory: names_directory(&written),
            destination: join(state.working_directory(), &written),
            chown,
            mode,
            remotes,
            shown: shown.join(" "),
        })
    }

    /// Asks servers for what the key needs to know of remote sources.
    pub(crate) fn resolve(&mut self, fetch: &Fetch<'_>) -> Result<(), StepError> {
        match &mut self.remotes {
            Some(remotes) => remotes.resolve(fetch),
            None => Ok(()),
        }
    }

    fn has_remotes(&self) -> bool {
        self.remotes.as_ref().is_some_and(|there| !there.is_empty())
    }

    fn select_path<'a>(&self, tree: &Tree<'a>, path: &str) -> Result<Selection<'a>, StepError> {
        let selected = if self.with_parents {
            select_with_parents(tree, &[path], &self.filter)
        } else {
            select(tree, &[path], &self.filter)
        };
        selected.map_err(|source| StepError::Copy { source })
    }

    /// The files of all sources in their order; without `brought` those of `source` only.
    fn select<'a>(
        &self,
        source: &'a SourceTree,
        brought: Option<&'a Brought>,
    ) -> Result<Selection<'a>, StepError> {
        let tree = source.tree();
        let mut selection = Selection::default();
        for (index, path) in self.paths.iter().enumerate() {
            let remote = self.remotes.as_ref().is_some_and(|there| there.has(index));
            let part = match brought {
                Some(brought) if remote => brought.select(index, &self.filter)?,
                None if remote => None,
                _ => Some(self.select_path(&tree, path)?),
            };
            if let Some(part) = part {
                selection.append(part);
            }
        }
        for (name, bytes) in &self.inline {
            selection.append(Selection::inline(name, bytes.clone()));
        }
        Ok(selection)
    }

    /// What names the content of the selection in a root file system of this chain, which nobody changes.
    fn selection_key(&self, chain: Option<&ChainId>, platform: &Platform) -> Digest {
        let mut key = KeyBuilder::new("selection", chain, platform);
        key.list("path", &self.paths);
        key.list("exclude", &self.excludes);
        key.field("parents", [u8::from(self.with_parents)]);
        key.list("name", self.inline.iter().map(|(name, _)| name));
        key.list("inline", self.inline.iter().map(|(_, bytes)| bytes));
        key.finish()
    }

    /// The content in `source`, if that is a root file system and nobody knows it yet.
    pub(crate) fn know(
        &self,
        store: &Store,
        source: &SourceTree,
        platform: &Platform,
    ) -> Option<Known> {
        let SourceTree::Rootfs { chain, .. } = source else {
            return None;
        };
        let selection = self.selection_key(chain.as_ref(), platform);
        if store.remembered_digest(&selection).is_some() {
            return None;
        }
        let selected = self.select(source, None).ok()?;
        let content = digest(&selected, &Memo::none()).ok()?;
        Some(Known { selection, content })
    }

    /// Everything that the step's files depend on, and the selection whose content was read for it:
    /// what is digested is what will be copied. Content of an immutable tree is digested once, and
    /// perhaps was.
    pub(crate) fn key<'a>(
        &self,
        store: &Store,
        source: &'a SourceTree,
        state: &StageState,
        platform: &Platform,
        clamp: Option<i64>,
        known: Option<Known>,
    ) -> Result<(Digest, Option<Selection<'a>>), StepError> {
        let below = state.snapshot.chain_id().filter(|_| !self.is_linked);
        let mut key = KeyBuilder::new("copy", below, platform);
        key.field("link", [u8::from(self.is_linked)]);
        let (content, selection) = match source {
            SourceTree::Context(open) => {
                let selection = self.select(source, None)?;
                (digest(&selection, &open.memo)?, Some(selection))
            }
            SourceTree::Rootfs { chain, .. } => {
                let memo_key = self.selection_key(chain.as_ref(), platform);
                if let Some(digest) = store.remembered_digest(&memo_key) {
                    (digest, None)
                } else if let Some(known) = known.filter(|known| known.selection == memo_key) {
                    store.remember_digest(&memo_key, &known.content)?;
                    (known.content, None)
                } else {
                    let selection = self.select(source, None)?;
                    let digest = digest(&selection, &Memo::none())?;
                    store.remember_digest(&memo_key, &digest)?;
                    (digest, Some(selection))
                }
            }
        };
        key.field("content", content.as_str());
        key.field("destination", &self.destination);
        key.field("directory", [u8::from(self.is_directory)]);
        key.field("chown", self.chown.as_deref().unwrap_or("-"));
        key.field(
            "chmod",
            self.mode.as_ref().map_or("-", |(text, _)| text.as_str()),
        );
        key.field("unpack", [u8::from(self.unpacks())]);
        if let Some(remotes) = &self.remotes {
            remotes.add_to_key(&mut key);
        }
        if let Some(clamp) = clamp {
            key.field("clamp", clamp.to_string());
        }
        Ok((key.finish(), selection))
    }

    /// Writes the files into `active`.
    pub(crate) fn execute<'a>(
        &self,
        fetch: &Fetch<'_>,
        source: &'a SourceTree,
        selection: Option<Selection<'a>>,
        active: &Active,
    ) -> Result<Copied, StepError> {
        let store = fetch.store;
        let brought = match &self.remotes {
            Some(remotes) => Some(remotes.bring(fetch)?),
            None => None,
        };
        // An overlay would mark each new directory as hiding what is below, and a layer that is put on
        // others later must hide nothing.
        let (root, form) = if self.is_linked {
            (open_upper(active)?, Form::PlainUpper)
        } else {
            (store.mount(active)?, Form::Plain)
        };
        let owner = match &self.chown {
            None => None,
            Some(chown) => Some(owner::lookup(root.as_fd(), chown)?),
        };
        let destination = Destination {
            root: root.as_fd(),
            path: &self.destination,
            is_directory: self.is_directory,
            owner,
            mode: self.mode.as_ref().map(|(_, spec)| spec),
            ownership: active.ownership(),
        };
        let selection = match selection {
            Some(local) if self.has_remotes() => {
                // Fails when a file is not what it was for the key.
                digest(&local, &Memo::none())?;
                self.select(source, brought.as_ref())?
            }
            Some(selection) => selection,
            None => self.select(source, brought.as_ref())?,
        };
        let copied = if let (Some(unpack), Some(brought)) = (self.unpack, &brought) {
            let sniff = &|file: &mut File| Ok(brought.may_unpack(file)? && is_archive(file)?);
            let extract = &mut |file: File, directory: BorrowedFd<'_>| {
                let mut tar = Decoder::detect(file)?;
                let limits = Limits::in_force();
                unpack_as(
                    &mut tar,
                    directory,
                    active.ownership(),
                    form,
                    owner,
                    &limits,
                )?;
                Ok(())
            };
            add(
                &selection,
                &destination,
                Archives {
                    unpack,
                    sniff,
                    extract,
                },
            )
        } else {
            copy(&selection, &destination)
        };
        copied.map_err(|source| StepError::Copy { source })
    }

    fn unpacks(&self) -> bool {
        self.unpack.is_some_and(|unpack| unpack != Unpack::Never)
    }
}

/// What an ADD with this `--unpack` does with the archives among its local sources.
fn unpack_of(flag: Option<bool>) -> Unpack {
    match flag {
        None => Unpack::Archives,
        Some(true) => Unpack::Asked,
        Some(false) => Unpack::Never,
    }
}

/// Whether the step makes a layer of its own. BuildKit drops `--link` when `--chmod` is there; here both
/// are done, except where a name in `--chown` needs the files of the image: there `--link` is dropped
/// too, so that what BuildKit builds is built. Without `--chmod` such a name is an error, as there.
pub(crate) fn is_linked(
    link: Option<bool>,
    chown: Option<&str>,
    has_mode: bool,
) -> Result<bool, StepError> {
    let Some(chown) = chown.filter(|_| link == Some(true)) else {
        return Ok(link == Some(true));
    };
    match owner::in_numbers(chown) {
        Some(owner) => owner.map(|_| true),
        None if has_mode => Ok(false),
        None => Err(StepError::Value {
            message: format!(
                "--chown={chown} cannot be used with --link, which does not see the image's users: \
                 write numbers, or leave --link out"
            ),
        }),
    }
}

fn open_upper(active: &Active) -> Result<OwnedFd, StepError> {
    let path = active.upper();
    sys::fs::open_directory(&path).map_err(|source| StepError::Directory {
        path: path.display().to_string(),
        source,
    })
}

fn parse_mode(text: String) -> Result<(String, ChmodSpec), StepError> {
    let spec = ChmodSpec::parse(&text).map_err(|error| StepError::Value {
        message: error.to_string(),
    })?;
    Ok((text, spec))
}

fn digest(selection: &Selection<'_>, memo: &Memo) -> Result<Digest, StepError> {
    selection
        .digest(memo)
        .map_err(|source| StepError::Copy { source })
}

/// By content: whether the file, decompressed where it is compressed, begins like a tar archive.
fn is_archive(file: &mut File) -> io::Result<bool> {
    file.rewind()?;
    let mut start = Vec::new();
    // A stream that cannot be decompressed is a file like any other.
    let read =
        Decoder::detect(&mut *file).and_then(|decoder| decoder.take(512).read_to_end(&mut start));
    Ok(read.is_ok() && is_tar(&start))
}

/// `.`, `./` and what ends in a slash name a directory whether it is there or not.
fn names_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.") || path.is_empty()
}

/// `path` as seen from `directory`, cleaned: no `.`, no `..`, never above the root.
pub(crate) fn join(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_cleaned_below_the_root() {
        for (directory, path, joined) in [
            ("/", "a", "/a"),
            ("/app", ".", "/app"),
            ("/app", "./x/", "/app/x"),
            ("/app", "/abs", "/abs"),
            ("/app", "../../../etc", "/etc"),
            ("/app", "", "/app"),
        ] {
            assert_eq!(join(directory, path), joined, "{directory} {path}");
        }
    }
}
