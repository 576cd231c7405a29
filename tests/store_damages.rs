//! Every way in which a store can be hurt is found and mended.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::rig::Rig;
use crate::rig::outcome::Outcome;
use crate::store_check::{blob, build, built, check, files, flip, parts, snapshot_with};

fn shorten(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// What is done to the store, and what the check has to say.
type Case = (&'static str, fn(&Rig), &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "a byte of a layer's blob is another",
        |rig| flip(&blob(rig, &parts(rig, "app")[3])),
        &[
            "damage: blob oci/blobs/sha256/",
            "damage: image docker.io/library/app:latest: its layer sha256:",
        ],
    ),
    (
        "half of the base's layer is gone",
        |rig| shorten(&blob(rig, &parts(rig, "base")[2])),
        &[
            "damage: image docker.io/library/app:latest: its layer sha256:",
            "damage: image docker.io/library/base:latest: its layer sha256:",
        ],
    ),
    (
        "a configuration is missing",
        |rig| fs::remove_file(blob(rig, &parts(rig, "app")[1])).unwrap(),
        &[
            "image docker.io/library/app:latest: its configuration sha256:",
            " is missing",
        ],
    ),
    (
        "a manifest is empty",
        |rig| fs::write(blob(rig, &parts(rig, "app")[0]), "").unwrap(),
        &[
            "image docker.io/library/app:latest: its manifest sha256:",
            " is damaged",
        ],
    ),
    (
        "a blob is a directory",
        |rig| {
            let path = blob(rig, &parts(rig, "app")[3]);
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        },
        &["not a regular file"],
    ),
    (
        "the list of tags is cut off",
        |rig| shorten(&rig.store().join("oci/index.json")),
        &[
            "damage: index oci/index.json: ",
            "write it anew with the 2 images that are whole",
        ],
    ),
    (
        "the list of tags is gone",
        |rig| fs::remove_file(rig.store().join("oci/index.json")).unwrap(),
        &["damage: index oci/index.json: No such file"],
    ),
    (
        "a list of a layer's blobs is no JSON",
        |rig| shorten(&files(rig, "layers", ".json")[0]),
        &["damage: layer layers/"],
    ),
    (
        "a layer's size is no number",
        |rig| fs::write(&files(rig, "layers", ".size")[0], "many").unwrap(),
        &["damage: layer layers/", "not a size"],
    ),
    (
        "a snapshot does not say what it is",
        |rig| shorten(&snapshot_with(rig, "one").join("snapshot.json")),
        &[
            "damage: snapshot snapshots/",
            "snapshot.json: EOF",
            "damage: record cache/",
            "it needs sha256:",
        ],
    ),
    (
        "a snapshot says that it is another",
        |rig| {
            let one = snapshot_with(rig, "one").join("snapshot.json");
            fs::copy(snapshot_with(rig, "two").join("snapshot.json"), one).unwrap();
        },
        &["snapshot.json describes another snapshot"],
    ),
    (
        "the files of a snapshot are gone",
        |rig| fs::remove_dir_all(snapshot_with(rig, "two").join("diff")).unwrap(),
        &["diff: No such file"],
    ),
    (
        "the snapshot that has the files of a linked one is gone",
        |rig| fs::remove_dir_all(snapshot_with(rig, "file")).unwrap(),
        &[
            "it needs sha256:",
            "which is not there",
            "which is not whole",
        ],
    ),
    (
        "a record of the cache is no JSON",
        |rig| fs::write(&files(rig, "cache", ".json")[0], "{").unwrap(),
        &["damage: record cache/", "not a record"],
    ),
    (
        "a record names a download that is gone",
        |rig| {
            let name = "ab".repeat(32);
            let directory = rig.store().join("cache/ab");
            fs::create_dir_all(&directory).unwrap();
            let record = format!(
                r#"{{"digest":"sha256:{name}","size":1,"etag":null,"last_modified":null}}"#
            );
            fs::write(directory.join(format!("{name}.json")), record).unwrap();
        },
        &["damage: record cache/ab/abab", " is missing"],
    ),
    (
        "the stat records of a context are torn",
        |rig| {
            fs::create_dir_all(rig.store().join("contexts")).unwrap();
            let name = format!("contexts/{}.memo", "cd".repeat(32));
            fs::write(rig.store().join(name), "rbmemo2\n").unwrap();
        },
        &["damage: memo contexts/cdcd"],
    ),
    (
        "the places of blocks are torn",
        |rig| {
            fs::create_dir_all(rig.store().join("blocks")).unwrap();
            let name = format!("blocks/{}.index", "cd".repeat(32));
            fs::write(rig.store().join(name), "rbblock1").unwrap();
        },
        &["damage: index blocks/cdcd"],
    ),
    (
        "a partial download is a directory",
        |rig| fs::create_dir_all(rig.store().join("partial").join("ef".repeat(32))).unwrap(),
        &["damage: partial partial/efef"],
    ),
    (
        "an instance of a cache mount is a file",
        |rig| {
            let instance = &files(rig, "cache-mounts", "/0")[0];
            fs::remove_dir_all(instance).unwrap();
            fs::write(instance, "").unwrap();
        },
        &["damage: cache mount cache-mounts/", "not a directory"],
    ),
    (
        "directories of an earlier version are there",
        |rig| {
            for directory in ["snapshots/single/00", "cache-mounts/single/00/0"] {
                fs::create_dir_all(rig.store().join(directory)).unwrap();
            }
        },
        &[
            "damage: old snapshots/single",
            "damage: old cache-mounts/single",
        ],
    ),
    (
        "others may enter the store",
        |rig| set_mode(&rig.store(), 0o755),
        &["damage: mode .: others may enter it (mode 755)"],
    ),
    (
        "something is in the layer below every RUN",
        |rig| fs::write(rig.store().join("stub/etc/hosts"), "6.6.6.6 deb.debian.org").unwrap(),
        &["damage: stub stub: \"etc/hosts\" has content"],
    ),
    (
        "a program is in the layer below every RUN",
        |rig| fs::write(rig.store().join("stub/etc/profile"), "").unwrap(),
        &["damage: stub stub: etc/profile does not belong there"],
    ),
    (
        "the store does not say its format",
        |rig| fs::remove_file(rig.store().join("version")).unwrap(),
        &["damage: version version: missing"],
    ),
    (
        "the layout does not say that it is one",
        |rig| fs::write(rig.store().join("oci/oci-layout"), "").unwrap(),
        &["damage: layout oci/oci-layout"],
    ),
    (
        "directories are missing",
        |rig| {
            for name in ["tmp", "unsynced"] {
                fs::remove_dir_all(rig.store().join(name)).unwrap();
            }
        },
        &[
            "damage: layout tmp: missing",
            "damage: layout unsynced: missing",
        ],
    ),
];

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn every_damage_is_found_and_mended_and_the_next_build_makes_the_same_image() {
    let rig = built();
    let id = build(&rig);
    assert_eq!(
        check(&rig, &["--deep"]).0,
        Some(0),
        "{:?}",
        check(&rig, &["--deep"])
    );
    for (name, damage, expected) in CASES {
        damage(&rig);
        let before = rig.store_listing();
        let (code, found) = check(&rig, &[]);
        assert_eq!(code, Some(1), "{name}: {found}");
        for needle in *expected {
            assert!(found.contains(needle), "{name}: no {needle:?} in\n{found}");
        }
        assert_eq!(
            rig.store_listing(),
            before,
            "{name}: a check changes nothing"
        );
        let (code, repaired) = check(&rig, &["--repair"]);
        assert_eq!(code, Some(0), "{name}: {repaired}");
        let (code, clean) = check(&rig, &["--deep"]);
        assert!(
            code == Some(0) && clean.ends_with(": nothing is wrong\n"),
            "{name}: {clean}\nafter\n{repaired}"
        );
        import(&rig);
        assert_eq!(build(&rig), id, "{name}");
        let (code, clean) = check(&rig, &["--deep"]);
        assert_eq!(code, Some(0), "{name}, built again: {clean}");
    }
}

/// Brings the base again, where it was lost.
fn import(rig: &Rig) {
    if rig.rbuild(["inspect", "base"]).code == Some(0) {
        return;
    }
    let mut import = rig.command(["import", "base.tar", "base"]);
    import.env("SOURCE_DATE_EPOCH", "1400000000");
    Outcome::of(&mut import).succeeds();
}
