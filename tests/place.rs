//! Where the store is when nobody says so, and what happens where it cannot be.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, base, host};

/// rbuild without a named store, in a home and with a `TMPDIR` of the test.
fn homed(rig: &Rig, home: &Path, arguments: &[&str]) -> Command {
    let temporary = rig.path("temporary");
    drop(fs::create_dir(&temporary));
    let mut command = Command::new(host::binary());
    command
        .args(arguments)
        .current_dir(rig.context())
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null());
    command
}

/// The only line that may tell of a move.
#[track_caller]
fn note(outcome: &Outcome) -> String {
    let notes: Vec<_> = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("note: "))
        .collect();
    assert_eq!(notes.len(), 1, "{}", outcome.stderr);
    notes[0].to_owned()
}

fn moved(rig: &Rig) -> PathBuf {
    rig.path("temporary")
        .join(format!("rbuild-{}", host::uid()))
}

fn tar(rig: &Rig) -> String {
    let path = rig.path("base.tar");
    fs::write(&path, base::root_filesystem()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_usual_place_is_below_the_home_directory_and_not_mentioned() {
    let rig = Rig::empty();
    let home = rig.path("home");
    fs::create_dir(&home).unwrap();
    let outcome = Outcome::of(&mut homed(&rig, &home, &["import", &tar(&rig), "base"]));
    let outcome = outcome.succeeds();
    assert!(!outcome.stderr.contains("note:"), "{}", outcome.stderr);
    assert!(home.join(".local/share/rbuild/version").exists());
    let mut elsewhere = homed(&rig, &home, &["import", &tar(&rig), "base"]);
    Outcome::of(elsewhere.env("XDG_DATA_HOME", rig.path("data"))).succeeds();
    assert!(rig.path("data/rbuild/version").exists());
}

#[test]
fn a_home_that_cannot_be_written_moves_the_store_for_every_command() {
    if host::is_root() {
        return host::skip("root writes everywhere");
    }
    let rig = Rig::empty();
    let locked = rig.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    let file = rig.path("file");
    fs::write(&file, "").unwrap();
    for home in [
        Path::new("/"),
        &locked,
        &file,
        Path::new("/nonexistent/home"),
    ] {
        let import = Outcome::of(&mut homed(&rig, home, &["import", &tar(&rig), "base"]));
        let import = import.succeeds();
        let note = note(&import);
        let place = moved(&rig);
        assert!(note.contains(place.to_str().unwrap()), "{note}");
        assert!(note.contains("because"), "{note}");
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, 0o700);
        let images = Outcome::of(&mut homed(&rig, home, &["images"])).succeeds();
        assert!(String::from_utf8_lossy(&images.stdout).contains("base"));
        assert!(!home.join(".local").exists());
        remove(&place);
    }
}

/// Snapshots may belong to subordinate ids.
fn remove(store: &Path) {
    let arguments = [
        &["--map-root-user", "--map-auto"][..],
        &["--map-root-user"][..],
    ];
    for map in arguments {
        let removed = Command::new("unshare")
            .args(map)
            .args(["rm", "-rf", "--"])
            .arg(store)
            .stderr(Stdio::null())
            .status();
        if removed.is_ok_and(|status| status.success()) {
            return;
        }
    }
}

#[test]
fn the_cache_directory_comes_before_temporary_ones() {
    if host::is_root() {
        return host::skip("root writes everywhere");
    }
    let rig = Rig::empty();
    let mut import = homed(&rig, Path::new("/"), &["import", &tar(&rig), "base"]);
    let outcome = Outcome::of(import.env("XDG_CACHE_HOME", rig.path("cache"))).succeeds();
    assert!(note(&outcome).contains("cache/rbuild, because"));
    assert!(rig.path("cache/rbuild/version").exists());
    assert!(!moved(&rig).exists());
}

#[test]
fn a_named_store_is_taken_as_it_is() {
    let rig = Rig::empty();
    let mut import = homed(&rig, Path::new("/"), &["import", &tar(&rig), "base"]);
    let outcome = Outcome::of(import.env("RBUILD_ROOT", rig.store())).succeeds();
    assert!(!outcome.stderr.contains("note:"), "{}", outcome.stderr);
    assert!(rig.store().join("version").exists());
}

/// fsconfig(2) takes no value of 256 bytes, and what an option text of mount(2) gives a meaning may be in a
/// path too.
#[test]
fn a_store_with_a_long_and_odd_name_has_many_layers_all_the_same() {
    let rig = Rig::empty();
    let home = rig.path(&format!("a,b:c\\d/{0}/{0}", "long".repeat(50)));
    fs::create_dir_all(&home).unwrap();
    Outcome::of(&mut homed(&rig, &home, &["import", &tar(&rig), "base"])).succeeds();
    let steps: String = (0..20)
        .map(|step| format!("COPY file /copied{step}\n"))
        .collect();
    rig.write("file", "");
    rig.dockerfile(&format!(
        "FROM base\nRUN echo > /gone\n{steps}RUN rm /gone /copied3\n\
         RUN test ! -e /gone && test ! -e /copied3 && test -e /copied0 && touch /file"
    ));
    Outcome::of(&mut homed(&rig, &home, &["build", "."])).succeeds();
}

#[test]
fn commands_without_a_store_do_not_look_for_one() {
    if host::is_root() {
        return host::skip("root writes everywhere");
    }
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    for arguments in [&["build", "--check", "."][..], &["logout", "localhost:1"]] {
        let outcome = Outcome::of(&mut homed(&rig, Path::new("/"), arguments));
        assert!(!outcome.stderr.contains("note:"), "{}", outcome.stderr);
    }
    assert!(!moved(&rig).exists());
}

/// Runs `script` in a namespace in which `/tmp` and `/var/tmp` are directories of the test; `$0` is rbuild
/// and `$1` a base. `None` where there can be no such namespace.
fn in_namespace(rig: &Rig, script: &str) -> Option<Outcome> {
    if !host::tool("unshare") || !host::tool("mount") {
        return None;
    }
    // /tmp is hidden, and with it what lies there.
    for name in ["t", "v", "overlay", "upper", "work", "home"] {
        fs::create_dir_all(rig.path(name)).unwrap();
    }
    fs::set_permissions(rig.path("t"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(rig.path("v"), fs::Permissions::from_mode(0o1777)).unwrap();
    let prepare = "cd \"$2\" && exec 3<\"$1\" && \
        mkdir t/bin && cp \"$0\" t/bin/rbuild && mount --bind v /var/tmp && \
        mount --bind . /mnt && cd /mnt && mount --bind t /tmp && ";
    let mut command = Command::new("timeout");
    command
        .args([
            "-k",
            "5",
            "60",
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
        ])
        .arg(format!("{prepare}{script}"))
        .arg(host::binary())
        .arg(tar(rig))
        .arg(rig.path(""))
        .env_remove("RBUILD_ROOT")
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("TMPDIR")
        .env("HOME", "/")
        .stdin(Stdio::null());
    Some(Outcome::of(&mut command))
}

#[test]
fn a_link_or_directory_that_waits_in_tmp_is_not_used() {
    let rig = Rig::empty();
    let hostile = rig.path("hostile");
    fs::create_dir(&hostile).unwrap();
    fs::create_dir(rig.path("v")).unwrap();
    // Inside the namespace the caller is 0.
    symlink(&hostile, rig.path("v").join("rbuild-0")).unwrap();
    let script = "HOME=/proc /tmp/bin/rbuild import - base <&3";
    let Some(outcome) = in_namespace(&rig, script) else {
        return;
    };
    let outcome = outcome.succeeds();
    assert!(note(&outcome).contains("the store is in /tmp/rbuild-0"));
    assert_eq!(fs::read_dir(&hostile).unwrap().count(), 0);
    assert!(rig.path("t/rbuild-0/version").exists());
}

#[test]
fn a_temporary_directory_that_is_not_sticky_is_not_used() {
    let rig = Rig::empty();
    let script = "chmod 777 /var/tmp && HOME=/proc /tmp/bin/rbuild import - base <&3";
    let Some(outcome) = in_namespace(&rig, script) else {
        return;
    };
    let outcome = outcome.succeeds();
    assert!(note(&outcome).contains("the store is in /tmp/rbuild-0"));
    assert!(!rig.path("v/rbuild-0").exists());
}

#[test]
fn a_home_on_an_overlay_moves_the_store_and_a_named_store_there_is_refused() {
    let rig = Rig::empty();
    let overlay =
        "mount -t overlay -o lowerdir=home,upperdir=upper,workdir=work,userxattr none overlay && ";
    let script = format!(
        "{overlay} HOME=/mnt/overlay /tmp/bin/rbuild import - base <&3; \
         HOME=/mnt/overlay /tmp/bin/rbuild images -q"
    );
    let Some(outcome) = in_namespace(&rig, &script) else {
        return;
    };
    let outcome = outcome.succeeds();
    let reason = "the store is in /var/tmp/rbuild-0, because \
                  /mnt/overlay is on overlayfs, which cannot hold the layers of an overlay mount";
    assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
    assert!(rig.path("v/rbuild-0/version").exists());

    let rig = Rig::empty();
    let script =
        format!("{overlay} exec /tmp/bin/rbuild --root /mnt/overlay/store import - base <&3");
    let outcome = in_namespace(&rig, &script).unwrap();
    outcome.exits_with(3).says(&[
        "the store cannot be in /mnt/overlay/store",
        "overlayfs",
        "--root DIR or RBUILD_ROOT",
        "emptyDir",
    ]);
    assert!(!rig.path("upper/store").exists());
}

#[test]
fn a_named_store_that_cannot_be_written_is_refused_with_3() {
    if host::is_root() {
        return host::skip("root writes everywhere");
    }
    let rig = Rig::empty();
    let mut import = homed(
        &rig,
        &rig.path("home"),
        &["--root", "/proc/store", "import"],
    );
    Outcome::of(import.args([&tar(&rig), "base"]))
        .exits_with(3)
        .says(&["the store cannot be in /proc/store", "not writable"]);
}
