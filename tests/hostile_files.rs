//! Files that are not what their names promise: nothing waits for them, and nothing of the host is behind
//! them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::rig::image::{Image, Kind};
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

fn bounded(rig: &Rig, options: &[&str]) -> Outcome {
    Outcome::bounded(&rig.build_command(options))
}

fn mkfifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// How to put something else in the place of `$F`.
const REPLACEMENTS: [(&str, &str); 9] = [
    ("a pipe", "rm -rf $F; mkfifo $F"),
    ("a directory", "rm -rf $F; mkdir -p $F/x"),
    ("a link to itself", "ln -sfn $F $F"),
    ("a link to nothing", "ln -sfn /not/there $F"),
    ("a link to an endless device", "ln -sfn /dev/zero $F"),
    ("a link to a terminal", "ln -sfn /dev/tty $F"),
    ("a link to the host", "ln -sfn /proc/1/root/etc/shadow $F"),
    ("a link up", "ln -sfn ../../../../../../../../etc/shadow $F"),
    ("64 MiB of nothing", "rm -rf $F; truncate -s 64M $F"),
];

#[test]
fn users_are_looked_up_in_regular_files_only() {
    let rig = Rig::new();
    for file in ["/etc/passwd", "/etc/group"] {
        for (name, replace) in REPLACEMENTS {
            rig.write("f", "x").dockerfile(&format!(
                "FROM base AS evil\nRUN F={file}; {replace}\n\
                 FROM evil AS user\nUSER app:staff\nRUN true\n\
                 FROM evil AS owner\nCOPY --chown=app:staff f /f\n\
                 FROM evil AS workdir\nUSER app\nWORKDIR /new/one\n\
                 FROM evil AS numbers\nUSER 1000:1000\nRUN test $(id -u) = 1000"
            ));
            for target in ["user", "owner", "workdir"] {
                let outcome = bounded(&rig, &["--target", target]);
                outcome.is_sane(name);
                // The user is in the one file that is whole, the group in the other.
                let needs_no_group = target == "workdir" && file == "/etc/group";
                assert!(
                    outcome.code == Some(1) || needs_no_group,
                    "{target} with {file} as {name}: {}",
                    outcome.stderr
                );
            }
            bounded(&rig, &["--target", "numbers"]).is_sane(name);
        }
    }
}

#[test]
fn files_that_are_mounted_over_may_be_anything() {
    let rig = Rig::new();
    for file in ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"] {
        for (name, replace) in REPLACEMENTS {
            rig.dockerfile(&format!(
                "FROM base\nRUN rm -f /etc/shadow\nRUN F={file}; {replace}; true\nRUN echo fine > /fine"
            ));
            let outcome = bounded(&rig, &[]);
            outcome.is_sane(name);
            assert!(
                outcome.code == Some(0) || !outcome.stderr.is_empty(),
                "{file} as {name}: {}",
                outcome.stderr
            );
        }
    }
}

#[test]
fn directories_of_the_system_may_be_links() {
    let rig = Rig::new();
    let victim = rig.path("victim");
    fs::create_dir(&victim).unwrap();
    let outside = victim.display();
    for directory in ["proc", "sys", "dev", "etc", "tmp", "run"] {
        for target in [
            format!("{outside}"),
            "..".to_owned(),
            "../../../../../../tmp".to_owned(),
            format!("/{directory}"),
            "/proc/self/fd".to_owned(),
            "/home".to_owned(),
        ] {
            // With COPY there is nothing mounted where the link is to be.
            let there = rig.context().join("there").join(directory);
            drop(fs::remove_dir_all(rig.context().join("there")));
            fs::create_dir(rig.context().join("there")).unwrap();
            symlink(&target, &there).unwrap();
            rig.write("f", "x").dockerfile(&format!(
                "FROM scratch AS link\nCOPY there/ /\n\
                 FROM scratch AS evil\nCOPY --from=link / /\nCOPY --from=base /bin /bin\n\
                 FROM evil\nENV PATH=/bin\nRUN echo fine > /fine; ls -la / /proc/self/ > /listing; true\n\
                 WORKDIR /{directory}/work\nCOPY f /{directory}/copied"
            ));
            let outcome = bounded(&rig, &[]);
            outcome.is_sane(&format!("/{directory} to {target}"));
            assert_eq!(
                fs::read_dir(&victim).unwrap().count(),
                0,
                "/{directory} to {target}"
            );
        }
    }
}

#[test]
fn a_working_directory_is_in_the_image() {
    let rig = Rig::new();
    fs::write(rig.path("secret"), "host-secret").unwrap();
    let secret = rig.path("secret").display().to_string();
    for directory in [
        "/proc/self/cwd",
        "/proc/self/root",
        "/proc/1/root",
        "/proc/self/fd/0",
        "/proc/self/fd/3",
        "/proc/self/fd/7/../../..",
        "/proc/self/fd/8",
        "/proc/thread-self/cwd",
        "/sys/fs/cgroup",
        "/dev/fd/3",
        "/dev/shm/made",
        "../../../../../..",
    ] {
        rig.dockerfile(&format!(
            "FROM base\nWORKDIR {directory}\nRUN pwd > /out; cat {secret} .{secret} ../../..{secret} \
             ../../../../../../..{secret} >> /out 2>/dev/null; true"
        ));
        let archive = rig.path("image.tar");
        drop(fs::remove_file(&archive));
        let outcome = bounded(
            &rig,
            &["-o", &format!("type=oci,dest={}", archive.display())],
        );
        outcome.is_sane(directory);
        if outcome.code == Some(0) {
            let out = Image::open(&archive).text("out");
            assert!(
                out.starts_with('/') && !out.contains("unreachable"),
                "{directory}: {out}"
            );
            assert!(!out.contains("host-secret"), "{directory}: {out}");
        }
    }
}

#[test]
fn special_files_of_a_context_are_not_waited_for() {
    // What takes the place of the Dockerfile, or of the file with the patterns.
    type Place = fn(&Path);
    let kinds: [(&str, Place); 6] = [
        ("a pipe", mkfifo),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("an endless device", |path| {
            symlink("/dev/zero", path).unwrap();
        }),
        ("a link to itself", |path| symlink(path, path).unwrap()),
        ("a link to nothing", |path| {
            symlink("nothing", path).unwrap();
        }),
        ("8 GiB of nothing", |path| {
            fs::File::create(path).unwrap().set_len(8 << 30).unwrap();
        }),
    ];
    for (name, place) in kinds {
        for file in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"] {
            let rig = Rig::new();
            rig.dockerfile("FROM base\nCOPY Dockerfile /");
            let path = rig.context().join(file);
            drop(fs::remove_file(&path));
            place(&path);
            let outcome = bounded(&rig, &[]);
            outcome.is_sane(name);
            assert_eq!(
                outcome.code,
                Some(1),
                "{file} as {name}: {}",
                outcome.stderr
            );
        }
    }
    let rig = Rig::new();
    mkfifo(&rig.context().join("pipe"));
    symlink("/dev/zero", rig.context().join("zero")).unwrap();
    symlink("loop", rig.context().join("loop")).unwrap();
    symlink("/etc/shadow", rig.context().join("shadow")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(rig.context().join("socket")).unwrap();
    rig.dockerfile("FROM base\nCOPY . /all/\nRUN test -p /all/pipe && test -L /all/zero");
    let outcome = bounded(&rig, &[]);
    outcome.is_sane("a whole context");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for (member, code) in [
        ("pipe", 0),
        ("zero", 1),
        ("loop", 1),
        ("shadow", 1),
        ("socket", 1),
    ] {
        rig.dockerfile(&format!("FROM base\nCOPY {member} /one"));
        let outcome = bounded(&rig, &[]);
        outcome.is_sane(member);
        assert!(
            outcome.code == Some(code) || member == "socket",
            "{member}: {}",
            outcome.stderr
        );
        rig.dockerfile(&format!("FROM base\nADD {member} /one"));
        bounded(&rig, &[]).is_sane(member);
        rig.dockerfile(&format!(
            "FROM base\nRUN --mount=type=bind,source={member},target=/m ls -l /m"
        ));
        bounded(&rig, &[]).is_sane(member);
    }
}

#[test]
fn trees_deeper_than_there_are_descriptors_end_with_a_message_and_leave_nothing() {
    let rig = Rig::new();
    let deep = "i=0; while [ $i -lt 3000 ]; do mkdir d && cd d; i=$((i+1)); done";
    // The store can be used afterwards, and what the step made is gone from it.
    for options in [&[][..], &["--limits", "written-files=100000"]] {
        rig.dockerfile(&format!(
            "FROM base\nWORKDIR /deep\nRUN {deep} 2>/dev/null; true"
        ));
        let outcome = bounded(&rig, options);
        outcome.is_sane("a deep tree");
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("deep"), "{}", outcome.stderr);
        rig.dockerfile("FROM base\nRUN true");
        bounded(&rig, &["--no-cache"]).exits_with(0);
        let left: Vec<_> = fs::read_dir(rig.store().join("tmp"))
            .unwrap()
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // In a cache, which stays.
    rig.dockerfile(&format!(
        "FROM base\nRUN --mount=type=cache,target=/deep cd /deep && {deep}; true"
    ));
    bounded(&rig, &[]).is_sane("a deep cache");
    rig.rbuild(["system", "df"]).exits_with(0);
    rig.rbuild(["builder", "prune", "-af"]).exits_with(0);
    // In a context.
    let mut path = rig.context();
    for _ in 0..1500 {
        path.push("d");
    }
    drop(path);
    let mut at = nix::fcntl::open(
        &rig.context(),
        nix::fcntl::OFlag::O_DIRECTORY,
        nix::sys::stat::Mode::empty(),
    )
    .unwrap();
    for _ in 0..1500 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        at = nix::fcntl::openat(
            &at,
            "d",
            nix::fcntl::OFlag::O_DIRECTORY,
            nix::sys::stat::Mode::empty(),
        )
        .unwrap();
    }
    rig.dockerfile("FROM base AS a\nCOPY . /all/\nFROM base\nCOPY --from=a /all /all");
    let outcome = bounded(&rig, &[]);
    outcome.is_sane("a deep context");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    host::stdout_of(
        std::process::Command::new("rm")
            .arg("-rf")
            .arg(rig.context().join("d")),
    );
}

#[test]
fn attributes_that_a_command_or_a_context_sets_make_no_devices() {
    let source = r#"
        #include <fcntl.h>
        #include <stdio.h>
        #include <sys/xattr.h>
        #include <unistd.h>
        int main(int count, char **names) {
            char record[17] = {0, 0, 0, 0, 0, 0, 0, 0, 'b', 8};
            for (int i = 1; i < count; i++) {
                close(open(names[i], O_CREAT | O_WRONLY, 0666));
                setxattr(names[i], "user.rbuild.owner", record, sizeof record, 0);
                setxattr(names[i], "user.overlay.opaque", "y", 1, 0);
                setxattr(names[i], "trusted.overlay.opaque", "y", 1, 0);
            }
            return 0;
        }"#;
    let Some(program) = host::compile(source) else {
        return;
    };
    let rig = Rig::new();
    rig.write("forge", &program).chmod("forge", 0o755);
    let forge = rig.context().join("forge");
    let planted = rig.context().join("planted");
    host::stdout_of(std::process::Command::new(&forge).arg(&planted));
    rig.chmod("planted", 0o644);
    let archive = rig.path("image.tar");
    rig.dockerfile(
        "FROM base AS made\nCOPY forge planted /\nUSER app\nRUN /forge /tmp/app\nUSER root\n\
         RUN /forge /root-s /etc/group2 && /forge /etc\nRUN touch /later && chmod 600 /root-s\n\
         FROM made\nCOPY --from=made /root-s /tmp/app /planted /copied/\nRUN cat /etc/passwd > /seen",
    );
    let output = format!("type=oci,dest={}", archive.display());
    bounded(&rig, &["-o", &output]).exits_with(0);
    let image = Image::open(&archive);
    for path in [
        "planted",
        "tmp/app",
        "root-s",
        "etc/group2",
        "copied/root-s",
        "copied/app",
        "copied/planted",
    ] {
        let node = image.file(path);
        assert_eq!(node.kind, Kind::File, "{path}");
        let ours = node.xattrs.keys().find(|name| name.contains("rbuild"));
        assert_eq!(ours, None, "{path}");
    }
    assert_eq!(image.text("seen"), crate::rig::base::PASSWD);
    // What is in the store is what is in the layers.
    rig.rbuild(["store", "check", "--deep"]).exits_with(0);
}

#[test]
fn a_cache_that_another_step_changes_leads_no_mount_out() {
    let source = r#"
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <stdio.h>
        #include <sys/syscall.h>
        #include <sys/stat.h>
        #include <time.h>
        #include <unistd.h>
        int main(int count, char **words) {
            mkdir("/c/dir", 0777);
            unlink("/c/link");
            symlink(words[1], "/c/link");
            for (time_t end = time(0) + 4; time(0) < end;)
                syscall(SYS_renameat2, AT_FDCWD, "/c/dir", AT_FDCWD, "/c/link", RENAME_EXCHANGE);
            return 0;
        }"#;
    let Some(program) = host::compile(source) else {
        return;
    };
    let rig = Rig::new();
    rig.write("exchange", &program).chmod("exchange", 0o755);
    let victim = rig.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("secret"), "host-secret").unwrap();
    let outside = victim.display();
    let mut dockerfile = format!(
        "FROM base AS swap\nCOPY exchange /exchange\n\
         RUN --mount=type=cache,id=race,target=/c /exchange {outside}\n\
         FROM base AS tree\nRUN mkdir /t && echo inside > /t/f\n\
         FROM base AS victim\n"
    );
    for number in 0..12 {
        dockerfile.push_str(&format!(
            "RUN --mount=type=cache,id=race,target=/c --mount=type=bind,from=tree,source=/t,target=/c/dir/in{number} \
             --mount=type=cache,id=other,target=/c/link/at \
             cat /c/dir/*/* /c/link/* {outside}/* >> /out 2>/dev/null; true\n"
        ));
    }
    dockerfile.push_str("FROM base\nCOPY --from=victim /out* /\nCOPY --from=swap /exchange /");
    rig.dockerfile(&dockerfile);
    let archive = rig.path("image.tar");
    drop(fs::remove_file(&archive));
    let outcome = bounded(
        &rig,
        &["-o", &format!("type=oci,dest={}", archive.display())],
    );
    outcome.is_sane("a cache that changes");
    assert_eq!(
        fs::read_dir(&victim).unwrap().count(),
        1,
        "{}",
        outcome.stderr
    );
    if outcome.code == Some(0) {
        let image = Image::open(&archive);
        assert!(
            !image.text("out").contains("host-secret"),
            "{}",
            outcome.stderr
        );
    }
}
