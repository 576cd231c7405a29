//! Taking names away from images, and the images that have none left.

use std::collections::HashSet;

use super::garbage::{Live, chain_ids, collect};
use super::list::{find, is_meant, list};
use super::{Error, Filter, Image, Tree, familiar};
use crate::oci::{self, ChainId, Descriptor, Digest, ImageConfig, Index};
use crate::store::{Exclusive, REF_NAME, View};

/// What a removal did, in docker's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The name, as docker shows it.
    Untagged(String),
    /// An image's id, or the ChainId of a layer.
    Deleted(Digest),
}

/// The entries of the index that go, and with them what nothing else names.
#[derive(Debug, Default)]
struct Plan {
    names: HashSet<String>,
    /// Images that go as a whole, their unnamed entries included.
    ids: HashSet<Digest>,
    /// Entries without a name that go although their image has one elsewhere.
    unnamed: HashSet<Digest>,
    actions: Vec<Action>,
}

/// Takes away the name that `text` is, or all names of the image whose id it begins, and deletes the
/// image when it has none left. An image with several names goes by its id only with `force`.
///
/// Without `store`, while a build runs, the bytes stay until the next removal.
pub(crate) fn remove(
    view: &View,
    store: Option<&Exclusive>,
    text: &str,
    force: bool,
) -> Result<(Vec<Action>, u64), Error> {
    let images = list(view)?;
    let image = find(&images, text)?;
    let reference = oci::parse_reference(text).ok();
    let mut names: Vec<&str> = image
        .names
        .iter()
        .filter(|name| {
            reference
                .as_ref()
                .is_some_and(|wanted| is_meant(name, wanted))
        })
        .map(|name| name.whole.as_str())
        .collect();
    if names.is_empty() {
        if image.names.len() > 1 && !force {
            return Err(Error::Conflict {
                id: image.id.short().to_owned(),
            });
        }
        names = image.names.iter().map(|name| name.whole.as_str()).collect();
    }
    let mut plan = Plan::default();
    plan.untag(&names);
    if names.len() == image.names.len() {
        plan.delete(std::slice::from_ref(&image));
        plan.delete_layers(view, std::slice::from_ref(&image), &images);
    }
    let freed = plan.carry_out(view, store)?;
    Ok((plan.actions, freed))
}

/// Deletes the images that have no name, or `all`, as far as `filters` hold. Returns what was done
/// and the bytes that this freed.
pub(crate) fn prune(
    store: &Exclusive,
    all: bool,
    filters: &[Filter],
) -> Result<(Vec<Action>, u64), Error> {
    let images = list(store.view())?;
    let mut going = Filter::apply(filters, &images)?;
    going.retain(|image| all || image.names.is_empty());
    let mut plan = Plan::default();
    for image in &going {
        let names: Vec<_> = image.names.iter().map(|name| name.whole.as_str()).collect();
        plan.untag(&names);
        plan.delete(std::slice::from_ref(image));
    }
    // An index that lost its name may hold an image that has one.
    for entry in store.view().index()?.manifests {
        let Ok(image) = super::list::read(store.view(), &entry) else {
            continue;
        };
        let has_name = entry.annotations.contains_key(REF_NAME);
        if has_name || plan.ids.contains(&image.id) {
            continue;
        }
        if !Filter::apply(filters, std::slice::from_ref(&image))?.is_empty() {
            plan.actions.push(Action::Deleted(entry.digest.clone()));
            plan.unnamed.insert(entry.digest);
        }
    }
    // Layers are named last: one that several images share goes with the last of them.
    plan.delete_layers(store.view(), &going, &images);
    let freed = plan.carry_out(store.view(), Some(store))?;
    Ok((plan.actions, freed))
}

impl Plan {
    fn untag(&mut self, names: &[&str]) {
        for name in names {
            self.names.insert((*name).to_owned());
            let shown = familiar(name).to_owned();
            self.actions.push(Action::Untagged(shown));
        }
    }

    fn delete(&mut self, going: &[Image]) {
        for image in going {
            self.ids.insert(image.id.clone());
            self.actions.push(Action::Deleted(image.id.clone()));
        }
    }

    fn delete_layers(&mut self, view: &View, going: &[Image], all: &[Image]) {
        let stays = |image: &&Image| !self.ids.contains(&image.id);
        let kept: HashSet<ChainId> = all
            .iter()
            .filter(stays)
            .flat_map(|image| stacks(view, image))
            .flatten()
            .collect();
        let mut seen = HashSet::new();
        for stack in going.iter().flat_map(|image| stacks(view, image)) {
            for chain_id in stack.into_iter().rev() {
                if !kept.contains(&chain_id) && seen.insert(chain_id.clone()) {
                    self.actions.push(Action::Deleted(chain_id.0));
                }
            }
        }
    }

    /// Writes the shorter index, then removes what it does not name any more.
    fn carry_out(&self, view: &View, store: Option<&Exclusive>) -> Result<u64, Error> {
        let candidates = match (self.forget(view), store) {
            (Err(Error::Store(error)), Some(store)) if error.is_full() => {
                store.release_reserve()?;
                self.forget(view)?
            }
            (result, _) => result?,
        };
        match store {
            Some(store) => collect(store, &candidates),
            None => Ok(0),
        }
    }

    /// Takes the entries out of the index; returns the blobs that they named.
    fn forget(&self, view: &View) -> Result<HashSet<Digest>, Error> {
        let ids = &self.ids;
        let goes = |entry: &Descriptor| match entry.annotations.get(REF_NAME) {
            Some(name) => self.names.contains(name),
            None => {
                self.unnamed.contains(&entry.digest)
                    || super::list::read(view, entry).is_ok_and(|image| ids.contains(&image.id))
            }
        };
        let mut gone = Live::default();
        view.change_index(|index: &mut Index| {
            for entry in index.manifests.iter().filter(|entry| goes(entry)) {
                gone.add(view, entry);
            }
            index.manifests.retain(|entry| !goes(entry));
        })?;
        Ok(gone.blobs)
    }
}

/// The stacks of an image, and of those for other platforms in the indexes that name it.
fn stacks(view: &View, image: &Image) -> Vec<Vec<ChainId>> {
    let mut stacks = vec![chain_ids(&image.config)];
    let tops = image.names.iter().map(|name| &name.manifest);
    for top in tops.chain(&image.index) {
        let Ok(tree) = Tree::read(view, top) else {
            continue;
        };
        for part in &tree.parts {
            let config = view.read_blob(&part.config.digest).ok();
            let config = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            stacks.extend(config.map(|config: ImageConfig| chain_ids(&config)));
        }
    }
    stacks
}
