//! `rbuild run -v`: what of the host a command can reach, and what not.

use std::fs;

use crate::rig::Rig;

#[test]
fn a_directory_and_a_file_are_mounted() {
    let rig = Rig::new();
    rig.write("d/inner", "in directory\n")
        .write("f", "a file\n");
    let context = rig.context().display().to_string();
    let (directory, file) = (
        format!("{context}/d:/made/for/it"),
        format!("{context}/f:/etc/passwd"),
    );
    let command = "cat /made/for/it/inner /etc/passwd && echo written > /made/for/it/new";
    let outcome = rig
        .run(&["-v", &directory, "-v", &file, "base", "sh", "-c", command])
        .succeeds();
    assert_eq!(outcome.stdout, b"in directory\na file\n");
    assert_eq!(
        fs::read_to_string(rig.context().join("d/new")).unwrap(),
        "written\n"
    );
}

#[test]
fn a_relative_source_is_a_path_with_its_dot() {
    let rig = Rig::new();
    rig.write("f", "here\n");
    let outcome = rig
        .run(&["-v", "./context:/mnt", "base", "cat", "/mnt/f"])
        .succeeds();
    assert_eq!(outcome.stdout, b"here\n");
    for (volume, why) in [
        ("context:/mnt", "the name of a volume"),
        ("/mnt", "without a source"),
        ("./missing:/mnt", "cannot mount ./missing"),
        ("./context:mnt", "not an absolute path"),
        ("./context:/mnt:shared", "not supported"),
    ] {
        rig.run(&["-v", volume, "base", "true"])
            .exits_with(125)
            .says(&[why]);
    }
    rig.run(&["-v", "./context:/mnt", "--tmpfs", "/mnt", "base", "true"])
        .exits_with(125)
        .says(&["duplicate mount point: /mnt"]);
}

#[test]
fn a_mount_below_another_is_on_top_of_it() {
    let rig = Rig::new();
    rig.write("outer/sub/f", "hidden\n")
        .write("inner/f", "seen\n");
    let outcome = rig
        .run(&[
            "-v",
            "./context/inner:/m/sub",
            "-v",
            "./context/outer:/m",
            "base",
            "cat",
            "/m/sub/f",
        ])
        .succeeds();
    assert_eq!(outcome.stdout, b"seen\n");
}

#[test]
fn read_only_means_it() {
    let rig = Rig::new();
    rig.write("d/f", "kept");
    for attempt in [
        "echo x > /m/f",
        "rm /m/f",
        "touch /m/new",
        "chmod 777 /m/f",
        "mount -o remount,rw /m; echo x > /m/f",
        "umount /m; mount -o remount,bind,rw /m; echo x > /m/f",
    ] {
        let outcome = rig.run(&["-v", "./context/d:/m:ro", "base", "sh", "-c", attempt]);
        assert_ne!(outcome.code, Some(0), "{attempt}");
    }
    assert_eq!(
        fs::read_to_string(rig.context().join("d/f")).unwrap(),
        "kept"
    );
    assert_eq!(fs::read_dir(rig.context().join("d")).unwrap().count(), 1);
}

#[test]
fn what_is_mounted_below_a_read_only_source_is_read_only_too() {
    let rig = Rig::new();
    fs::create_dir_all(rig.context().join("d/sub")).unwrap();
    let run = rig.command([
        "run",
        "-v",
        "./context/d:/m:ro",
        "base",
        "sh",
        "-c",
        "test -e /m/sub/marker || exit 9; touch /m/sub/new",
    ]);
    // A mount of the caller's own needs a namespace of the caller's own.
    let prepare = "mount -t tmpfs none context/d/sub && touch context/d/sub/marker && exec \"$@\"";
    let shell = ["timeout", "60", "unshare", "-rm", "sh", "-c", prepare, "sh"];
    let mut command = crate::rig::terminal::started_by(&shell, &run);
    let outcome = crate::rig::outcome::Outcome::of(&mut command);
    outcome.exits_with(1).says(&["Read-only file system"]);
}

#[test]
fn a_set_user_id_program_of_the_host_gives_nobody_a_right() {
    let rig = Rig::new();
    rig.write("d/f", "");
    let outcome = rig
        .run(&[
            "-v",
            "./context/d:/m",
            "base",
            "sh",
            "-c",
            "grep ' /m ' /proc/self/mountinfo",
        ])
        .succeeds();
    let line = String::from_utf8(outcome.stdout).unwrap();
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
}

#[test]
fn links_in_a_hostile_image_do_not_lead_a_mount_out() {
    let rig = Rig::new();
    let outside = rig.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "host-secret").unwrap();
    rig.write("d/f", "mounted\n");
    let target = outside.display();
    rig.dockerfile(&format!(
        "FROM base\nRUN ln -s {target} /absolute && ln -s ../../../../../..{target} /relative && \
         ln -s /proc/1/root{target} /magic && ln -s {target}/secret /file"
    ));
    rig.build(&["-t", "evil"]).succeeds();
    for link in ["absolute", "relative"] {
        let volume = format!("./context/d:/{link}/new");
        let command = format!("cat {target}/new/f; ls /{link}");
        let outcome = rig
            .run(&["-v", &volume, "evil", "sh", "-c", &command])
            .succeeds();
        assert_eq!(outcome.stdout, b"mounted\nnew\n", "{link}");
    }
    for options in [
        &["-v", "./context/d:/magic/new"][..],
        &["-v", "./context/d/f:/file"],
        &["-w", "/absolute/made"],
        &["-w", "/magic/made"],
        &["--tmpfs", "/relative/made"],
    ] {
        let command = "cat /file /absolute/secret /relative/secret /magic/secret";
        let outcome = rig.run(&[options, &["evil", "sh", "-c", command]].concat());
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned() + &outcome.stderr;
        assert!(!said.contains("host-secret"), "{options:?}: {said}");
    }
    let names: Vec<_> = fs::read_dir(&outside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["secret"], "something was made outside");
    assert_eq!(
        fs::read_to_string(outside.join("secret")).unwrap(),
        "host-secret"
    );
}
