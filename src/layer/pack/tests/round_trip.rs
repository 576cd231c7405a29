//! What is packed, unpacked and packed again is the same.

use std::fs::File;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::layer::{Form, Limits, unpack};

fn unpacked(tar: &[u8]) -> TempDir {
    let root = directory();
    let fd = open(root.path());
    let mut input = tar;
    unpack(
        &mut input,
        fd.as_fd(),
        &Ownership::Mapped,
        Form::Overlay,
        &Limits::default(),
    )
    .unwrap();
    root
}

#[test]
fn what_is_packed_unpacks_to_the_same() {
    let root = directory();
    make_awkward_tree(root.path());
    make_whiteout(&root.path().join("gone"));
    make_opaque(&root.path().join("directory with spaces"));
    let first = packed(root.path(), &[], &PackOptions::default()).unwrap();
    let copy = unpacked(&first);
    let second = packed(copy.path(), &[], &PackOptions::default()).unwrap();
    assert!(
        first == second,
        "{:?}\n{:?}",
        listed(&first),
        listed(&second)
    );
    let file = fs::symlink_metadata(copy.path().join("setuid")).unwrap();
    assert_eq!(
        (file.mtime(), file.mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
}

#[derive(Debug, Clone)]
enum Make {
    Directory { mode: u32, opaque: bool },
    File { length: usize, mode: u32 },
    Symlink(String),
    Whiteout,
    Pipe,
    LinkTo(Vec<String>),
}

fn path() -> impl Strategy<Value = Vec<String>> {
    let name = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c".repeat(120)),
        "[a-zé ]{1,8}"
    ];
    prop::collection::vec(name, 1..4)
}

fn make() -> impl Strategy<Value = Make> {
    prop_oneof![
        // Without the owner's bits a plain user could not make what is inside.
        (0..0o100_u32, any::<bool>()).prop_map(|(mode, opaque)| Make::Directory {
            mode: 0o700 | mode,
            opaque
        }),
        (0..2000_usize, 0..0o10000_u32).prop_map(|(length, mode)| Make::File {
            length,
            mode: 0o400 | mode
        }),
        "[a-z/.]{1,150}".prop_map(Make::Symlink),
        Just(Make::Whiteout),
        Just(Make::Pipe),
        path().prop_map(Make::LinkTo),
    ]
}

/// Makes one file; what cannot be made where other files are is left out.
fn build(root: &Path, path: &[String], make: &Make, time: (i64, i64)) {
    let path: PathBuf = std::iter::once(root.to_path_buf())
        .chain(path.iter().map(Into::into))
        .collect();
    if fs::create_dir_all(path.parent().unwrap()).is_err() || fs::symlink_metadata(&path).is_ok() {
        return;
    }
    match make {
        Make::Directory { mode, opaque } => {
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            if *opaque {
                make_opaque(&path);
            }
        }
        Make::File { length, mode } => {
            File::create(&path)
                .unwrap()
                .write_all(&vec![b'x'; *length])
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Make::Symlink(target) => symlink(target, &path).unwrap(),
        Make::Whiteout => make_whiteout(&path),
        Make::Pipe => mknod(&path, SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap(),
        Make::LinkTo(target) => {
            let target: PathBuf = target.iter().collect();
            let is_file =
                fs::symlink_metadata(root.join(&target)).is_ok_and(|found| found.is_file());
            if is_file {
                fs::hard_link(root.join(target), &path).unwrap();
            }
            return;
        }
    }
    set_time(&path, time.0, time.1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_survives_packing_and_unpacking(
        makes in prop::collection::vec((path(), make(), (-10_i64..5_000_000_000, 0_i64..1_000_000_000)), 0..20)
    ) {
        let root = directory();
        for (path, make, time) in &makes {
            build(root.path(), path, make, *time);
        }
        let first = packed(root.path(), &[], &PackOptions::default()).unwrap();
        let copy = unpacked(&first);
        let second = packed(copy.path(), &[], &PackOptions::default()).unwrap();
        prop_assert!(first == second, "{:?}\n{:?}", listed(&first), listed(&second));
        let nothing = packed(root.path(), &[copy.path()], &PackOptions::default()).unwrap();
        // In an opaque directory everything is new.
        let is_opaque = |make: &Make| matches!(make, Make::Directory { opaque: true, .. });
        if !makes.iter().any(|(_, make, _)| is_opaque(make)) {
            let is_directory = |name: &String| name.ends_with('/') && !name.contains(" -> ");
            prop_assert_eq!(listed(&nothing).into_iter().find(is_directory), None);
        }
    }
}
