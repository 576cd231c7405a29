//! Libraries of the image that a program of the host would load to look up its users (CVE-2019-14271): rbuild
//! reads the files itself.

use std::fs;
use std::process::Command;

use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host, terminal};

/// A shared object that leaves a mark in `victim`, and in the image, as soon as it is loaded; `None`, and said
/// so, where there is no compiler.
fn library(victim: &str) -> Option<Vec<u8>> {
    if !host::tool("cc") {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let (source, object) = (directory.path().join("l.c"), directory.path().join("l.so"));
    let text = format!(
        "#include <fcntl.h>\n\
         __attribute__((constructor)) static void loaded(void) {{\n\
             open(\"{victim}/ran\", O_CREAT | O_WRONLY, 0644);\n\
             open(\"/ran\", O_CREAT | O_WRONLY, 0644);\n\
         }}\n"
    );
    fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&object)
        .arg(&source);
    host::stdout_of(&mut compiler);
    Some(fs::read(&object).unwrap())
}

#[test]
fn libraries_of_the_image_are_not_loaded_to_look_up_its_users() {
    let rig = Rig::new();
    let victim = rig.path("victim");
    fs::create_dir(&victim).unwrap();
    let Some(library) = library(victim.to_str().unwrap()) else {
        return;
    };
    // The trap works: a program of the host that is made to load it is caught.
    rig.write("evil.so", &library).chmod("evil.so", 0o755);
    let object = rig.context().join("evil.so");
    host::stdout_of(Command::new("true").env("LD_PRELOAD", &object));
    if fs::remove_file(victim.join("ran")).is_err() {
        return host::skip("`true` is not linked dynamically");
    }
    let mut dockerfile = "FROM base AS evil\n".to_owned();
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    for directory in [
        "/lib",
        "/lib64",
        "/usr/lib",
        &format!("/lib/{triple}"),
        "/usr/lib/x/..",
    ] {
        for service in ["files", "compat", "dns", "systemd", "evil"] {
            let target = format!("{directory}/libnss_{service}.so.2");
            dockerfile.push_str(&format!("COPY evil.so {target}\n"));
        }
    }
    rig.write(
        "nsswitch.conf",
        "passwd: evil files\ngroup: evil files\nhosts: evil\n",
    )
    .write("ld.so.preload", "/lib/libnss_evil.so.2\n")
    .write("file", "x");
    dockerfile.push_str(
        "COPY nsswitch.conf ld.so.preload /etc/\nENV LD_PRELOAD=/lib/libnss_evil.so.2 LD_LIBRARY_PATH=/lib\n\
         COPY --chown=app:staff file /owned\nADD --chown=app:staff file /added\n\
         USER app:staff\nWORKDIR /work\nRUN id > /tmp/id\nUSER nobody\nRUN id > /tmp/other\n\
         FROM evil\nCOPY --from=evil --chown=app:app /owned /again\n",
    );
    rig.dockerfile(&dockerfile);
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let directory = format!("type=local,dest={}", rig.path("exported").display());
    for output in [&output, &directory] {
        let build = rig.build_command(&["-o", output, "-t", "evil"]);
        let mut build = terminal::started_by(&["timeout", "-k", "5", "120"], &build);
        Outcome::of(&mut build).succeeds();
    }
    rig.run(&["--rm", "-u", "app:staff", "evil", "/bin/id"])
        .succeeds();
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    let image = Image::open(&archive);
    assert!(!image.has("ran"));
    let ids = image.text("tmp/id");
    assert!(ids.contains("uid=1000(app) gid=50(staff)"), "{ids}");
    let other = image.text("tmp/other");
    assert!(other.contains("uid=65534(nobody)"), "{other}");
    assert_eq!(
        (image.file("owned").uid, image.file("owned").gid),
        (1000, 50)
    );
}
