use serde_json::json;

use super::*;
use crate::oci::{media_type, parse_reference};
use crate::ownership::Table;
use crate::store::{Store, tags};

struct Stand {
    directory: tempfile::TempDir,
}

impl Stand {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn store(&self) -> Store {
        Store::open(&self.root(), Ownership::Recorded(Table::default())).unwrap()
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root().join("oci/blobs/sha256").join(digest.hex())
    }

    fn look(&self, repair: bool) -> Vec<Finding> {
        let ownership = Ownership::Recorded(Table::default());
        let checkup = Checkup::open(&self.root(), ownership, repair, Duration::ZERO);
        let checkup = checkup.unwrap().unwrap();
        let depth = Depth {
            deep: true,
            is_memo: &|_| true,
        };
        let mut findings = Vec::new();
        checkup
            .look(&depth, &mut |finding| findings.push(finding))
            .unwrap();
        checkup.repair(&findings).unwrap();
        findings
    }

    /// Kinds, places and problems of the damages.
    fn damages(&self, repair: bool) -> Vec<String> {
        self.look(repair)
            .into_iter()
            .filter(|finding| finding.level == Level::Damage)
            .map(|finding| format!("{} {}: {}", finding.kind, finding.place, finding.problem))
            .collect()
    }

    fn is_clean(&self) -> bool {
        self.look(false).is_empty()
    }
}

/// A manifest of one layer, whose content differs with `text`; the entry for it, the configuration and
/// the layer.
fn image(store: &Store, text: &str, diff_ids: usize) -> [Descriptor; 3] {
    let layer = store.put_blob(media_type::LAYER, text.as_bytes()).unwrap();
    let diff_ids = vec![layer.digest.clone(); diff_ids];
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {}, "history": []});
    let config = store
        .put_blob(media_type::CONFIG, config.to_string().as_bytes())
        .unwrap();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = manifest.to_string();
    let entry = store
        .put_blob(media_type::MANIFEST, manifest.as_bytes())
        .unwrap();
    [entry, config, layer]
}

fn index(store: &Store, entries: &[&Descriptor]) -> Descriptor {
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries});
    let index = index.to_string();
    store.put_blob(media_type::INDEX, index.as_bytes()).unwrap()
}

fn tag(store: &Store, name: &str, entry: &Descriptor) {
    let name = parse_reference(name).unwrap();
    store.set_tags(&[name], entry).unwrap();
}

fn tagged(root: &Path) -> Vec<Digest> {
    let entries = tags::read_index(root).unwrap().manifests;
    entries.into_iter().map(|entry| entry.digest).collect()
}

#[test]
fn a_new_store_is_clean_and_a_check_makes_none() {
    let stand = Stand::new();
    let ownership = Ownership::Recorded(Table::default());
    let none = Checkup::open(&stand.root(), ownership, true, Duration::ZERO).unwrap();
    assert!(none.is_none() && !stand.root().exists());
    drop(stand.store());
    assert!(stand.is_clean());
}

#[test]
fn an_index_loses_the_images_that_are_damaged_and_keeps_the_others() {
    let stand = Stand::new();
    let store = stand.store();
    let [one, _, layer] = image(&store, "one", 1);
    let [two, ..] = image(&store, "two", 1);
    let elsewhere = Descriptor::new(media_type::MANIFEST, Digest::of(b"elsewhere"), 9);
    let top = index(&store, &[&one, &two, &elsewhere]);
    tag(&store, "app", &top);
    drop(store);
    assert!(stand.is_clean(), "not every image of an index is here");
    fs::write(stand.blob(&layer.digest), "other").unwrap();
    let found = stand.damages(true);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[1].starts_with("image docker.io/library/app:latest ("),
        "{found:?}"
    );
    assert!(stand.is_clean());
    assert!(stand.blob(&two.digest).exists() && !stand.blob(&one.digest).exists());
    assert_eq!(tagged(&stand.root()), std::slice::from_ref(&top.digest));

    fs::write(stand.blob(&two.digest), "").unwrap();
    assert_eq!(stand.damages(true).len(), 2);
    assert!(stand.is_clean());
    assert!(
        tagged(&stand.root()).is_empty(),
        "none of its images is left"
    );
}

#[test]
fn an_image_has_as_many_layers_as_its_configuration_says() {
    let stand = Stand::new();
    let store = stand.store();
    for (diff_ids, expected) in [(1, 0), (2, 1), (0, 0)] {
        let [entry, ..] = image(&store, &format!("layer {diff_ids}"), diff_ids);
        tag(&store, "app", &entry);
        assert_eq!(stand.damages(false).len(), expected, "{diff_ids}");
        store
            .as_view()
            .unwrap()
            .change_index(|index| index.manifests.clear())
            .unwrap();
    }
}

#[test]
fn a_lost_list_names_what_no_other_image_is_part_of() {
    let stand = Stand::new();
    let store = stand.store();
    let [one, ..] = image(&store, "one", 1);
    let [two, ..] = image(&store, "two", 1);
    let [_, _, gone] = image(&store, "three", 1);
    let top = index(&store, &[&one]);
    drop(store);
    fs::remove_file(stand.blob(&gone.digest)).unwrap();
    fs::remove_file(stand.root().join("oci/index.json")).unwrap();
    let found = stand.look(true);
    assert_eq!(found.len(), 1);
    assert!(found[0].repair().contains("the 2 images that are whole"));
    let mut expected = vec![top.digest, two.digest];
    expected.sort();
    assert_eq!(tagged(&stand.root()), expected);
    assert!(stand.is_clean());
}

#[test]
fn a_stack_goes_from_its_top_down() {
    let stand = Stand::new();
    let store = stand.store();
    let mut below = store.snapshot(None).unwrap();
    for number in 0..4 {
        let active = store.prepare(&below).unwrap();
        let diff_id = DiffId(Digest::of(&[number]));
        below = store
            .publish_snapshot(store.stage(active, diff_id, None))
            .unwrap();
    }
    let lowest = below.lowest(1);
    drop(store);
    assert!(stand.is_clean());
    let hex = lowest.chain_id().unwrap().0.hex().to_owned();
    let damaged = stand.root().join("snapshots/recorded").join(hex);
    fs::remove_dir(damaged.join("diff")).unwrap();
    let found = stand.look(true);
    let mut depths: Vec<usize> = found
        .iter()
        .filter_map(|finding| match finding.remedy {
            Remedy::Snapshot(_, depth) => Some(depth),
            _ => None,
        })
        .collect();
    depths.sort_unstable();
    assert_eq!(depths, [0, 1, 2, 3]);
    assert!(stand.is_clean());
    let left = fs::read_dir(stand.root().join("snapshots/recorded")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn without_the_store_alone_nothing_is_repaired() {
    let stand = Stand::new();
    let store = stand.store();
    let [entry, _, layer] = image(&store, "one", 1);
    tag(&store, "app", &entry);
    fs::write(stand.blob(&layer.digest), "").unwrap();
    assert_eq!(stand.damages(false).len(), 2);
    assert_eq!(stand.damages(false).len(), 2, "looking changed something");
    let ownership = Ownership::Recorded(Table::default());
    let busy = Checkup::open(&stand.root(), ownership, true, Duration::ZERO);
    assert!(matches!(busy, Err(Error::Busy { .. })));
}
