//! Modes, owners and times of the host's files, which members of archives would change through links
//! (CVE-2021-32760, CVE-2021-41089, RUSTSEC-2026-0067): names and contents alone would not show it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tar::Header;

use crate::rig::forged::{Forged, Layer};
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, terminal};

/// All that a change of any kind leaves behind.
fn state(path: &Path) -> (u32, u32, u32, u64, i64, i64, i64, i64) {
    let found = fs::symlink_metadata(path).unwrap();
    (
        found.mode(),
        found.uid(),
        found.gid(),
        found.nlink(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    )
}

/// A mode, an owner and a time that the victim does not have.
fn changed(header: &mut Header) {
    header.set_mode(0o7777);
    header.set_mtime(1_234_567_890);
}

#[test]
fn no_member_changes_a_mode_an_owner_or_a_time_outside() {
    let rig = Rig::new();
    let directory = rig.path("victim");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("kept");
    fs::write(&file, "kept").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    let before = [state(&directory), state(&file)];
    let (victim, kept) = (directory.to_str().unwrap(), file.to_str().unwrap());
    let up = format!("../../../../../../../../..{victim}");
    let l = Layer::new;
    let dir = |layer: Layer, path: &str| layer.raw(b'5', path, "", b"", changed);
    let attributes = [("SCHILY.xattr.user.note", &b"x"[..]), ("mtime", b"5.5")];
    let cases: Vec<(&str, Vec<Layer>)> = vec![
        (
            "a mode through a link",
            vec![dir(l().symlink("out", victim), "out")],
        ),
        (
            "with a slash",
            vec![dir(l().symlink("out", victim), "out/")],
        ),
        ("with a dot", vec![dir(l().symlink("out", victim), "out/.")]),
        (
            "through a link up",
            vec![dir(l().symlink("a/out", &up), "a/out")],
        ),
        (
            "through a link of a lower layer",
            vec![l().symlink("out", victim), dir(l(), "out")],
        ),
        (
            "a directory that is there below a link",
            vec![dir(
                l().symlink("out", format!("{victim}/..")),
                "out/victim",
            )],
        ),
        (
            "a file over a link to a file",
            vec![l().symlink("out", kept).raw(b'0', "out", "", b"", changed)],
        ),
        (
            "a file through a link",
            vec![
                l().symlink("out", victim)
                    .raw(b'0', "out/kept", "", b"", changed),
            ],
        ),
        (
            "a hard link to a link",
            vec![
                l().symlink("out", kept)
                    .hard_link("other", "out")
                    .raw(b'0', "other", "", b"", changed),
            ],
        ),
        (
            "a hard link through a link",
            vec![
                l().symlink("out", victim)
                    .hard_link("other", "out/kept")
                    .raw(b'0', "other", "", b"", changed),
            ],
        ),
        (
            "attributes and times of a link",
            vec![
                l().records(&attributes)
                    .raw(b'2', "out", kept, b"", changed)
                    .records(&attributes)
                    .raw(b'2', "dir", victim, b"", changed),
            ],
        ),
        (
            "removals",
            vec![
                l().symlink("out", victim).symlink("f", kept),
                l().file(".wh.f", "").file("out/.wh.kept", "").raw(
                    b'0',
                    "out/.wh..wh..opq",
                    "",
                    b"",
                    changed,
                ),
            ],
        ),
        ("the root itself", vec![dir(l(), "./"), dir(l(), "/")]),
    ];
    for (name, layers) in cases {
        let layers: Vec<Vec<u8>> = layers.into_iter().map(Layer::tar).collect();
        let archive = rig.path("evil.tar");
        let forged = Forged::on_base(layers.clone());
        fs::write(&archive, forged.archive()).unwrap();
        let context = format!("evil=oci-archive:{}", archive.display());
        // The same bytes, unpacked beside and onto links that the image has.
        let mut add = String::new();
        for (number, layer) in layers.iter().enumerate() {
            rig.write(&format!("{number}.tar"), layer);
            add.push_str(&format!("ADD {number}.tar /to/\nADD {number}.tar /onto/\n"));
        }
        for dockerfile in [
            "FROM evil\nRUN true".to_owned(),
            format!("FROM base\nRUN ln -s {victim} /onto\n{add}"),
            format!("FROM base\nRUN ln -s {up} /onto\n{add}"),
        ] {
            rig.dockerfile(&dockerfile);
            let build = rig.build_command(&["--build-context", &context]);
            let mut build = terminal::started_by(&["timeout", "-k", "5", "60"], &build);
            let outcome = Outcome::of(&mut build);
            assert!(matches!(outcome.code, Some(0 | 1)), "{name}: {outcome:?}");
            let after = [state(&directory), state(&file)];
            assert_eq!(after, before, "{name}: {dockerfile}");
        }
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}
