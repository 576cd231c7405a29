//! `--sandbox=chroot`: commands in a chroot, as root of a container that has no namespaces to give.
//!
//! The tests are root of a user namespace with many ids, where all of root's calls that the rung needs
//! work but mknod(2) of devices.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::outcome::Outcome;
use crate::rig::terminal::started_by;
use crate::rig::{Rig, host, image};

const AS_ROOT: [&str; 8] = [
    "timeout",
    "-k",
    "5",
    "120",
    "unshare",
    "--map-root-user",
    "--map-auto",
    "--",
];

/// `rbuild --sandbox=chroot ARGUMENTS` as root of a namespace.
fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = started_by(
        &AS_ROOT,
        &rig.command([&["--sandbox=chroot"], arguments].concat()),
    );
    command.stdin(Stdio::null());
    command
}

/// A store with the base that root of the namespace made.
fn rig() -> Option<Rig> {
    if !host::maps_many_ids() {
        return None;
    }
    Some(Rig::new())
}

fn build(rig: &Rig, dockerfile: &str, options: &[&str]) -> Outcome {
    rig.dockerfile(dockerfile);
    let context = rig.context().display().to_string();
    let arguments = [&["build", "--progress=plain"], options, &[&context]].concat();
    Outcome::of(&mut command(rig, &arguments))
}

fn image(rig: &Rig, dockerfile: &str) -> image::Image {
    let archive = rig.path("chroot.tar");
    let output = format!("type=oci,dest={}", archive.display());
    build(rig, dockerfile, &["-o", &output]).succeeds();
    image::Image::open(&archive)
}

/// `setxattr PATH NAME VALUE`, as a static program: busybox has none.
const SETXATTR: &str = "#include <string.h>\n#include <sys/xattr.h>\n\
    int main(int c, char **v) { return setxattr(v[1], v[2], v[3], strlen(v[3]), 0) != 0; }";

/// Steps that change files in every way, each of which is one layer.
const CHANGES: [&str; 24] = [
    "RUN mkdir -p /t/a/b /t/c /t/d/e && echo 1 > /t/a/f && echo 2 > /t/a/b/g && echo 3 > /t/c/h && \
     echo 4 > /t/file && echo 5 > /t/d/e/x && ln -s file /t/link && echo 6 > /t/hard1 && \
     ln /t/hard1 /t/hard2 && mkfifo /t/pipe && touch /t/empty && mkdir /t/none",
    "RUN rm /t/a/f",
    "RUN rm -r /t/a/b",
    "RUN mv /t/c /t/moved",
    "RUN rm /t/hard2",
    "RUN chmod 4751 /t/file",
    "RUN ln /t/file /t/another",
    "RUN chown 1000:50 /t/moved",
    "RUN chown -h 1:1 /t/link",
    "RUN ln -snf elsewhere /t/link",
    "RUN mkdir -p /t/deep/er/est",
    "RUN rm /t/empty && mkdir /t/empty && echo in > /t/empty/in",
    "RUN rm -r /t/d && echo now-a-file > /t/d",
    "RUN rm -r /t/moved && mkdir /t/moved && echo other > /t/moved/other",
    "RUN rmdir /t/none",
    "RUN true",
    "RUN touch -d @1000 /t/a",
    "RUN mv /t/hard1 /t/renamed",
    "RUN cp -a /bin /bin2 && rm -r /bin2/b*",
    "RUN mkdir /t/new && chmod 2770 /t/new && chown 0:10 /t/new && touch /t/new/inherits",
    "RUN rm -r /t && mkdir /t",
    "COPY --chown=app:staff file /x/y/",
    "COPY --link file /linked/file",
    "WORKDIR /w/o/r/k",
];

#[test]
fn layers_are_those_of_a_namespace_byte_for_byte() {
    let Some(rig) = rig() else { return };
    rig.write("file", "contents");
    let mut text = "FROM base\n".to_owned() + &CHANGES.join("\n");
    if let Some(program) = host::compile(SETXATTR) {
        rig.write("setxattr", program).chmod("setxattr", 0o755);
        text += "\nCOPY setxattr /bin/\nRUN echo a > /attr && mkdir /dir\n\
            RUN setxattr /attr user.one 1 && setxattr /dir user.overlay.opaque y\n\
            RUN setxattr /attr user.two 2\nRUN setxattr /dir user.three 3";
    }
    rig.dockerfile(&text);
    let mut ids = Vec::new();
    for sandbox in ["mapped", "chroot"] {
        let archive = rig.path(sandbox);
        let output = format!("type=oci,rewrite-timestamp=true,dest={}", archive.display());
        let context = rig.context().display().to_string();
        let option = format!("--sandbox={sandbox}");
        let arguments = [&option, "build", "-o", &output, &context];
        let mut rbuild = rig.command(arguments);
        rbuild.env("SOURCE_DATE_EPOCH", "1700000000");
        let mut rbuild = match sandbox {
            "chroot" => started_by(&AS_ROOT, &rbuild),
            _ => rbuild,
        };
        Outcome::of(&mut rbuild).succeeds();
        let image = image::Image::open(&archive);
        ids.push(image);
    }
    let [mapped, chroot] = &ids[..] else {
        unreachable!()
    };
    for (index, (one, other)) in mapped.layers.iter().zip(&chroot.layers).enumerate() {
        let names = |layer: &image::Layer| -> Vec<String> {
            layer.entries.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(one), names(other), "layer {index}");
        assert!(one.tar == other.tar, "layer {index}: {:?}", one.entries);
    }
    assert_eq!(mapped.config["rootfs"], chroot.config["rootfs"]);
}

/// In an overlay the other name would keep the old mode.
#[test]
fn a_change_of_a_file_is_one_of_all_its_names() {
    let Some(rig) = rig() else { return };
    let image = image(
        &rig,
        "FROM base\nRUN echo 1 > /a && ln /a /b && ln /a /c\nRUN chmod 600 /a && rm /c",
    );
    let names: Vec<&str> = image.last_layer();
    assert_eq!(names, ["a", "b", ".wh.c"]);
}

#[test]
fn owners_users_and_set_id_bits_are_the_kernels() {
    let Some(rig) = rig() else { return };
    let image = image(
        &rig,
        "FROM base\nRUN touch /tmp/s && chown 1:2 /tmp/s && chmod 6755 /tmp/s\nUSER app:wheel\n\
         WORKDIR /home/app\nRUN id > me && stat -c %u:%g /tmp/s >> me && \
         (cat /root/x 2>&1; echo x > /root/x) 2>&1 | grep -c denied >> me",
    );
    let set = image.file("tmp/s");
    assert_eq!((set.uid, set.gid, set.mode), (1, 2, 0o6755));
    let text = image.text("home/app/me");
    assert!(text.starts_with("uid=1000(app) gid=10(wheel)"), "{text}");
    assert!(text.ends_with("1:2\n2\n"), "{text}");
    let file = image.file("home/app/me");
    assert_eq!((file.uid, file.gid), (1000, 10));
}

#[test]
fn stand_ins_are_there_for_a_step_and_in_no_layer() {
    let Some(rig) = rig() else { return };
    rig.write("resolv.conf", "of the image\n");
    let image = image(
        &rig,
        "FROM base\nRUN mkdir -p /own && echo mine > /etc/resolv.conf && echo theirs > /etc/hosts && \
         echo junk > /dev/junk && echo x > /dev/null && cat /proc/version > /own/version && \
         cat /proc/mounts /etc/hosts > /own/seen\nCOPY resolv.conf /etc/resolv.conf\n\
         RUN cat /etc/hosts > /own/hosts; test ! -e /dev/junk\nRUN true",
    );
    let last = image.layers.len() - 1;
    let names: Vec<Vec<&str>> = image
        .layers
        .iter()
        .map(|layer| {
            layer
                .entries
                .iter()
                .map(|(name, _)| name.as_str())
                .collect()
        })
        .collect();
    assert_eq!(names[1], ["own", "own/seen", "own/version"], "{names:?}");
    assert_eq!(names[2], ["etc", "etc/resolv.conf"]);
    assert_eq!(names[last], ["own", "own/hosts"]);
    assert!(image.text("own/hosts").contains("localhost"));
    assert_eq!(image.text("etc/resolv.conf"), "of the image\n");
}

#[test]
fn whatever_a_step_leaves_running_is_dead_before_its_layer_is_made() {
    let Some(rig) = rig() else { return };
    let image = image(
        &rig,
        "FROM base\nRUN sh -c '(setsid sh -c \"(setsid sleep 77701 &) ; trap : TERM INT HUP; \
         sleep 77701; echo late > /late\" &)' ; (while :; do (sleep 77701 & ) ; sleep 0.01; done) & \
         sleep 0.2",
    );
    assert_eq!(host::processes_with("sleep 77701"), [""; 0]);
    assert!(image.layers.len() == 1 || !image.has("late"));
}

#[test]
fn an_interrupted_build_leaves_no_process_and_no_file() {
    let Some(rig) = rig() else { return };
    rig.dockerfile("FROM base\nRUN (setsid sh -c 'sleep 77702 & sleep 77702' &) ; sleep 77702");
    let context = rig.context().display().to_string();
    let mut child = command(&rig, &["build", "--progress=plain", &context])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while host::processes_with("sleep 77702").len() < 3 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it does not start"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // timeout(1) passes the signal on to what it started.
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(host::processes_with("sleep 77702"), [""; 0]);
    let left: Vec<_> = fs::read_dir(rig.store().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn links_of_a_step_lead_nowhere_outside() {
    let Some(rig) = rig() else { return };
    let victim = rig.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("resolv.conf"), "host").unwrap();
    fs::write(victim.join("hosts"), "host").unwrap();
    let shown = victim.display();
    for attack in [
        format!("RUN ln -sf {shown}/resolv.conf /etc/resolv.conf; ln -sf {shown}/hosts /etc/hosts"),
        format!("RUN mv /etc /etc2; ln -s {shown} /etc"),
        format!(
            "RUN rm -rf /dev /proc /sys; ln -s {shown} /dev; ln -s {shown} /proc; ln -s {shown} /sys"
        ),
        format!("RUN mkdir -p {shown} && mv /etc {shown}/etc; ln -s ../../../..{shown} /etc"),
    ] {
        let text = format!("FROM base\n{attack}\nRUN echo x > /etc/resolv.conf; true\nRUN true");
        build(&rig, &text, &["--no-cache"]);
        assert_eq!(
            fs::read_to_string(victim.join("resolv.conf")).unwrap(),
            "host"
        );
        assert_eq!(fs::read_to_string(victim.join("hosts")).unwrap(), "host");
        let names = fs::read_dir(&victim).unwrap().count();
        assert_eq!(names, 2, "{attack}");
    }
}

#[test]
fn the_chroot_cannot_be_left() {
    let Some(rig) = rig() else { return };
    fs::write(rig.path("secret"), "host-secret").unwrap();
    let secret = rig.path("secret").display().to_string();
    let text = format!(
        "FROM base\nRUN (mkdir /j; chroot /j true; cat /../../../../..{secret}; \
         cat /proc/1/root{secret}; echo gone > /proc/1/root{secret}; ls -l /proc/self/fd; \
         mount -t proc proc /proc; mount -o bind / /mnt; unshare -r true) > /tmp/out 2>&1; true"
    );
    let image = image(&rig, &text);
    let said = image.text("tmp/out");
    assert!(!said.contains("host-secret"), "{said}");
    assert!(
        said.contains("chroot: can't change root directory"),
        "{said}"
    );
    assert!(!image.has("mnt/etc"));
    assert_eq!(
        fs::read_to_string(rig.path("secret")).unwrap(),
        "host-secret"
    );
}

#[test]
fn what_takes_a_namespace_is_refused_with_its_place_before_any_work() {
    let Some(rig) = rig() else { return };
    let before = rig.store_listing();
    for (line, options, says) in [
        ("RUN --network=none true", &[][..], "RUN --network=none"),
        ("RUN true", &["--network=none"], "--network=none"),
        ("RUN true", &["--network=isolated"], "--network=isolated"),
        ("RUN true", &["--shm-size=1m"], "--shm-size"),
        (
            "RUN --mount=type=secret,id=s true",
            &[],
            "RUN --mount=type=secret with a file",
        ),
        (
            "RUN --mount=type=tmpfs,target=/x,size=1m true",
            &[],
            "RUN --mount=type=tmpfs with a size",
        ),
    ] {
        build(&rig, &format!("FROM base\n{line}"), options)
            .exits_with(3)
            .says(&[says, "cannot be had in a chroot", "Dockerfile:2:"]);
    }
    assert_eq!(rig.store_listing(), before);
}

#[test]
fn mounts_are_moved_in_and_out() {
    let Some(rig) = rig() else { return };
    rig.write("dir/a", "from the context").write("ignored", "x");
    rig.write(".dockerignore", "ignored");
    let text = "FROM base AS other\nRUN echo 'from a stage' > /made\nFROM base\n\
        RUN --mount=type=cache,target=/cache cat /cache/* > /before 2>/dev/null; echo $RANDOM >> /cache/n\n\
        RUN --mount=type=bind,source=dir,target=/b --mount=type=bind,from=other,source=/made,target=/c/d \
            --mount=type=tmpfs,target=/tmp/t --mount=type=secret,id=s,env=TOKEN \
            cat /b/a /c/d > /seen && echo t > /tmp/t/x && echo changed > /b/a && echo ${#TOKEN} >> /seen\n\
        RUN <<EOF cat > /script\n#!/bin/sh\nheredoc\nEOF\n\
        COPY --from=other /made /copied";
    fs::write(rig.path("s"), "token").unwrap();
    let secret = format!("id=s,src={}", rig.path("s").display());
    let archive = format!("type=oci,dest={}", rig.path("mounts.tar").display());
    let options = ["--secret", &secret, "-o", &archive];
    build(&rig, text, &options).succeeds();
    let image = image::Image::open(&rig.path("mounts.tar"));
    assert_eq!(image.text("seen"), "from the contextfrom a stage\n5\n");
    assert_eq!(image.text("copied"), "from a stage\n");
    for path in ["b", "c", "cache", "tmp/t", "b/a"] {
        assert!(!image.has(path), "{path}");
    }
    assert_eq!(
        fs::read_to_string(rig.context().join("dir/a")).unwrap(),
        "from the context"
    );
    build(&rig, text, &[&options[..], &["--no-cache"]].concat()).succeeds();
    let again = image::Image::open(&rig.path("mounts.tar"));
    assert_eq!(
        again.text("before").lines().count(),
        1,
        "the cache was kept"
    );
}

#[test]
fn a_failed_step_changes_nothing_for_the_next_build() {
    let Some(rig) = rig() else { return };
    build(
        &rig,
        "FROM base\nRUN echo 1 > /one\nRUN rm /one; exit 9",
        &[],
    )
    .exits_with(1)
    .says(&["exit code: 9"]);
    let image = image(&rig, "FROM base\nRUN echo 1 > /one\nRUN cat /one > /two");
    assert_eq!(image.text("two"), "1\n");
}

#[test]
fn commands_of_run_are_in_a_chroot_too() {
    let Some(rig) = rig() else { return };
    let ran = Outcome::of(&mut command(
        &rig,
        &[
            "run",
            "--commit",
            "kept",
            "base",
            "sh",
            "-c",
            "id; echo 1 > /new",
        ],
    ))
    .succeeds()
    .says(&["no namespaces here"]);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("uid=0(root)"));
    let image = image(&rig, "FROM kept\nRUN cat /new > /again");
    assert_eq!(image.text("again"), "1\n");
    for option in [
        "-t",
        "--network=none",
        "--network=isolated",
        "--read-only",
        "-v/tmp:/x",
    ] {
        Outcome::of(&mut command(&rig, &["run", option, "base", "true"]))
            .exits_with(125)
            .says(&["cannot be had in a chroot"]);
    }
}

#[test]
fn auto_takes_a_chroot_only_where_it_is_allowed() {
    let Some(rig) = rig() else { return };
    rig.dockerfile("FROM base\nRUN echo hi > /hi");
    let context = rig.context().display().to_string();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let without_namespaces = [&AS_ROOT[..], &["sh", "-c", script, "sh"]].concat();
    let rbuild = rig.command(["build", "--progress=plain", &context]);
    Outcome::of(&mut started_by(&without_namespaces, &rbuild))
        .exits_with(3)
        .says(&[
            "Dockerfile:2:1",
            "max_user_namespaces",
            "RBUILD_ALLOW_CHROOT=1",
        ]);
    let mut allowed = started_by(&without_namespaces, &rbuild);
    Outcome::of(allowed.env("RBUILD_ALLOW_CHROOT", "1"))
        .succeeds()
        .says(&["no namespaces here"]);
}
