//! Many users of one store at the same time, and what is right afterwards.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::rig::faulty::Faulty;
use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::terminal::bounded;
use crate::rig::tree::Tree;
use crate::rig::{Rig, host};

const BUILDS: usize = 20;

/// Some steps are those of other builds too, so that several make the same at once.
fn dockerfile(number: usize) -> String {
    format!(
        "FROM base\n\
         RUN mkdir /shared && echo {shared} > /shared/old && ln /shared/old /shared/second\n\
         COPY file{copied} /in/\n\
         COPY --link file{copied} /linked/\n\
         RUN --mount=type=cache,target=/cache echo {number} >> /cache/log\n\
         RUN rm -r /shared && mkdir /shared && echo {number} > /shared/new\n\
         LABEL number={number}\n",
        shared = number % 4,
        copied = number % 5,
    )
}

fn write_contexts(rig: &Rig) {
    for number in 0..BUILDS {
        rig.write(&format!("Dockerfile.{number}"), dockerfile(number));
        rig.write(&format!("file{}", number % 5), format!("{}\n", number % 5));
    }
}

fn patiently(command: &Command) -> Outcome {
    let mut command = bounded(command);
    Outcome::of(command.stdin(std::process::Stdio::null()))
}

fn build(rig: &Rig, number: usize) -> Outcome {
    let file = rig.context().join(format!("Dockerfile.{number}"));
    let name = format!("app:{number}");
    patiently(&rig.build_command(&["-f", file.to_str().unwrap(), "-t", &name]))
}

fn saved(rig: &Rig, name: &str) -> Image {
    Image::from_archive(&rig.rbuild(["save", name]).succeeds().stdout)
}

/// Images `app:0` to `app:19` are those that `alone` has.
fn are_as_built_alone(rig: &Rig, alone: &[Image]) {
    for (number, expected) in alone.iter().enumerate() {
        let image = saved(rig, &format!("app:{number}"));
        let differences = Tree::of(expected).differences(&Tree::of(&image));
        assert!(differences.is_empty(), "app:{number}: {differences:#?}");
        assert_eq!(image.config["config"], expected.config["config"]);
        assert_eq!(image.layers.len(), expected.layers.len());
    }
}

#[test]
fn twenty_builds_and_other_programs_use_one_store_at_the_same_time() {
    if !host::tool("skopeo") || !host::tool("umoci") {
        return;
    }
    let registry = Faulty::start();
    let remote = format!("{}/team/base:v1", registry.host());
    let alone = Rig::new();
    write_contexts(&alone);
    alone.rbuild(["tag", "base", &remote]).succeeds();
    alone.rbuild(["push", "-q", &remote]).succeeds();
    let expected: Vec<Image> = (0..BUILDS)
        .map(|number| {
            build(&alone, number).succeeds();
            saved(&alone, &format!("app:{number}"))
        })
        .collect();

    let rig = Rig::new();
    write_contexts(&rig);
    let layout = rig.store().join("oci").display().to_string();
    let in_place = format!("oci:{layout}:docker.io/library/base:latest");
    let program = |line: &[&str]| {
        let mut command = Command::new(line[0]);
        command.args(&line[1..]);
        patiently(&command).succeeds();
    };
    let done = AtomicBool::new(false);
    let others: [&(dyn Fn() + Sync); 6] = [
        &|| drop(patiently(&rig.command(["images"])).succeeds()),
        &|| drop(patiently(&rig.command(["pull", "-q", &remote])).succeeds()),
        &|| drop(patiently(&rig.command(["system", "df"])).succeeds()),
        &|| may_prune(&rig),
        &|| program(&["skopeo", "inspect", "--config", &in_place]),
        &|| program(&["umoci", "list", "--layout", &layout]),
    ];
    std::thread::scope(|scope| {
        let watched: Vec<_> = others
            .into_iter()
            .map(|other| {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        other();
                    }
                })
            })
            .collect();
        let builds: Vec<_> = (0..BUILDS)
            .map(|number| {
                let rig = &rig;
                scope.spawn(move || build(rig, number))
            })
            .collect();
        let builds: Vec<_> = builds.into_iter().map(|build| build.join()).collect();
        done.store(true, Ordering::Relaxed);
        for build in builds {
            build.unwrap().succeeds();
        }
        for other in watched {
            other.join().unwrap();
        }
    });

    let scratch: Vec<_> = fs::read_dir(rig.store().join("tmp")).unwrap().collect();
    assert!(scratch.is_empty(), "{scratch:?}");
    are_as_built_alone(&rig, &expected);
    // Nothing that is left is without a use, and a clean-up takes nothing that has one.
    for prune in [&["image", "prune", "-f"][..], &["builder", "prune", "-af"]] {
        rig.rbuild(prune).succeeds();
    }
    are_as_built_alone(&rig, &expected);
    program(&["skopeo", "inspect", &format!("oci:{layout}:{remote}")]);
    rig.rbuild(["image", "prune", "-af"]).succeeds();
    rig.rbuild(["builder", "prune", "-af"]).succeeds();
    let left = rig.store_listing();
    let is_content = |line: &&String| {
        ["oci/blobs/sha256/", "snapshots/", "cache/", "layers/"]
            .iter()
            .any(|place| line.starts_with(place) && !line.ends_with('/'))
    };
    let left: Vec<_> = left.iter().filter(is_content).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A clean-up does its work or says that a build is running, and nothing else.
fn may_prune(rig: &Rig) {
    let outcome = patiently(&rig.command(["image", "prune", "-f"]));
    if outcome.code != Some(0) {
        outcome.exits_with(1).says(&["in use by a build"]);
    }
}

/// Waits until two builds are in this step, and lets the one whose file is not the first be later.
const MEETING: &str = "FROM base
RUN --mount=type=cache,target=/meeting \\
    own=$(mktemp /meeting/XXXXXX); \\
    for i in $(seq 300); do [ $(ls /meeting | wc -l) = 2 ] && break; sleep 0.1; done; \\
    [ /meeting/$(ls /meeting | head -n 1) = $own ] || sleep 2; \\
    echo $own > /own
";

#[test]
fn builds_that_make_the_same_at_once_go_on_with_one_result() {
    let rig = Rig::new();
    rig.dockerfile(MEETING);
    let [one, other] = std::thread::scope(|scope| {
        [(); 2]
            .map(|()| scope.spawn(|| patiently(&rig.build_command(&[]))))
            .map(|build| build.join().unwrap().succeeds().id())
    });
    assert_eq!(
        saved(&rig, &one).text("own"),
        saved(&rig, &other).text("own")
    );
}

#[test]
fn other_programs_read_the_store_in_place() {
    if !host::tool("skopeo") || !host::tool("umoci") {
        return;
    }
    let rig = Rig::new();
    for compression in ["gzip", "zstd", "uncompressed"] {
        rig.dockerfile(&format!("FROM base\nRUN echo {compression} > /own\n"));
        let output = format!("type=image,compression={compression}");
        let name = format!("example.org/team/app:{compression}");
        rig.build(&["-t", &name, "-o", &output]).succeeds();
        let place = format!("{}/oci:{name}", rig.store().display());
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", &format!("oci:{place}")]);
        let shown = String::from_utf8(host::stdout_of(&mut skopeo)).unwrap();
        assert!(shown.contains("\"Layers\""), "{shown}");
        if compression == "zstd" {
            // umoci knows it since 0.5.
            continue;
        }
        let bundle = rig.path(compression);
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--rootless", "--image", &place]);
        host::stdout_of(umoci.arg(&bundle));
        let own = fs::read_to_string(bundle.join("rootfs/own")).unwrap();
        assert_eq!(own, format!("{compression}\n"));
    }
}
