//! The files of an image as another builder has to produce them.

use std::collections::{BTreeMap, BTreeSet};

use super::image::{Image, Kind, Node};

/// What buildah or rbuild themselves put into a container; not the Dockerfile's doing.
const OF_THE_BUILDER: [&str; 8] = [
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "run",
    "sys",
];

/// What of a file has to be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fact {
    kind: Kind,
    mode: u32,
    owner: (u64, u64),
    symlink: Option<String>,
    /// The names of this file, where it has several.
    names: BTreeSet<String>,
    xattrs: BTreeMap<String, Vec<u8>>,
    content: Option<Vec<u8>>,
}

/// The files of an image, without those that the builder itself makes.
pub(crate) struct Tree(BTreeMap<String, Fact>);

impl Tree {
    pub(crate) fn of(image: &Image) -> Self {
        Self::new(image, true)
    }

    /// For builds whose logs, keys and caches differ from run to run.
    pub(crate) fn without_contents(image: &Image) -> Self {
        Self::new(image, false)
    }

    fn new(image: &Image, with_content: bool) -> Self {
        let files = image.files();
        let names = names_of_hard_links(&files);
        let facts = files
            .keys()
            .filter(|path| !is_of_the_builder(path))
            .map(|path| {
                let first = first_name(&files, path);
                let names = names.get(first).cloned().unwrap_or_default();
                (path.clone(), Fact::of(&files[first], names, with_content))
            })
            .collect();
        Self(facts)
    }

    /// The paths that are not the same in the tree of rbuild (`self`) and that of buildah, each
    /// with what it is in both.
    pub(crate) fn differences(&self, theirs: &Self) -> BTreeMap<String, String> {
        let paths: BTreeSet<&String> = self.0.keys().chain(theirs.0.keys()).collect();
        paths
            .into_iter()
            // The root directory is not in every layer format's dialect.
            .filter(|path| !path.is_empty() && self.0.get(*path) != theirs.0.get(*path))
            .map(|path| {
                let (ours, theirs) = (told(self.0.get(path)), told(theirs.0.get(path)));
                let both = format!("\n  rbuild:  {ours}\n  buildah: {theirs}");
                (path.clone(), both)
            })
            .collect()
    }
}

impl Fact {
    fn of(node: &Node, names: BTreeSet<String>, with_content: bool) -> Self {
        Self {
            kind: node.kind,
            mode: if node.kind == Kind::Symlink {
                0
            } else {
                node.mode
            },
            owner: (node.uid, node.gid),
            symlink: node.link.clone(),
            names,
            // buildah's rootless overlay leaks its bookkeeping into layers; rbuild's does not
            // (`no_attribute_of_the_overlay_reaches_a_layer`).
            xattrs: node
                .xattrs
                .iter()
                .filter(|(name, _)| !name.starts_with("user.overlay."))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            content: with_content.then(|| node.content.clone()),
        }
    }
}

fn is_of_the_builder(path: &str) -> bool {
    OF_THE_BUILDER.iter().any(|builder| {
        path.strip_prefix(builder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// All names of each file that has several, by the first of them.
fn names_of_hard_links(files: &BTreeMap<String, Node>) -> BTreeMap<&str, BTreeSet<String>> {
    let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, node) in files {
        if node.kind == Kind::HardLink {
            let target = first_name(files, path);
            names
                .entry(target)
                .or_default()
                .extend([path.clone(), target.to_owned()]);
        }
    }
    names
}

/// The name under which the content of `path` stands in its layer.
fn first_name<'a>(files: &'a BTreeMap<String, Node>, path: &'a str) -> &'a str {
    match &files[path] {
        node if node.kind == Kind::HardLink => {
            let target = node.link.as_deref().unwrap();
            let target = target.trim_start_matches("./").trim_start_matches('/');
            first_name(files, target)
        }
        _ => path,
    }
}

fn told(fact: Option<&Fact>) -> String {
    fact.map_or("absent".to_owned(), |fact| {
        let mut fact = fact.clone();
        if let Some(content) = &mut fact.content {
            content.truncate(40);
        }
        format!("{fact:?}")
    })
}
