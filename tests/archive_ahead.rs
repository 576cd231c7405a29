//! An archive that is begun while its layers are compressed: it is what one written at the end is, and nothing
//! of it is seen before.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::rig::image::Image;

/// Files of a mebibyte that compress to about a third.
fn write_large(rig: &Rig, name: &str, mebibytes: u64) {
    let mut state = 88_172_645_463_325_252_u64;
    for number in 0..mebibytes {
        let mut text = String::new();
        while text.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(&format!("{:x} ", state % 60_000));
        }
        rig.write(&format!("{name}/{number}"), text);
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Builds into `out/NAME` of the rig; the archive.
fn archive(rig: &Rig, name: &str, options: &[&str]) -> Vec<u8> {
    fs::create_dir_all(rig.path("out")).unwrap();
    let path = rig.path("out").join(name);
    let output = format!(
        "{},rewrite-timestamp=true,dest={}",
        options[0],
        path.display()
    );
    let mut all = vec!["-o", &output, "--build-arg=SOURCE_DATE_EPOCH=1"];
    all.extend(&options[1..]);
    rig.build(&all).succeeds();
    fs::read(path).unwrap()
}

#[test]
fn it_has_the_bytes_of_one_that_is_written_at_the_end() {
    for output in [
        "type=oci,compression=zstd",
        "type=oci,compression=uncompressed",
        "type=docker",
    ] {
        let rig = Rig::new();
        write_large(&rig, "first", 17);
        write_large(&rig, "second", 20);
        rig.write("small", "text");
        rig.dockerfile(
            "FROM base\nCOPY first /first\nCOPY small /small\nRUN echo > /ran\nCOPY second /second",
        );
        fs::create_dir_all(rig.path("out")).unwrap();
        fs::write(rig.path("out/begun"), "what was there before").unwrap();
        let begun = archive(&rig, "begun", &[output]);
        let mode = fs::metadata(rig.path("out/begun")).unwrap().permissions();
        fs::write(rig.path("reference"), "").unwrap();
        let usual = fs::metadata(rig.path("reference")).unwrap().permissions();
        assert_eq!(mode.mode(), usual.mode());
        assert_eq!(Image::from_archive(&begun).layers.len(), 5);
        // Everything is there already.
        assert!(begun == archive(&rig, "cached", &[output]), "{output}");
        // Everything is made again and thrown away for what is there.
        let again = archive(&rig, "again", &[output, "--no-cache"]);
        assert!(begun == again, "{output}");
        let mut names = names_in(&rig.path("out"));
        names.sort();
        assert_eq!(names, ["again", "begun", "cached"]);
    }
}

/// The size of a file without a name in `directory` that `build` has open.
fn begun_in(build: &Child, directory: &Path) -> Option<u64> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", build.id())).ok()?;
    descriptors.flatten().find_map(|descriptor| {
        let target = fs::read_link(descriptor.path()).ok()?;
        let is_nameless = target.to_str()?.ends_with(" (deleted)");
        let is_here = target.parent() == Some(directory);
        let size = fs::metadata(descriptor.path()).ok()?.len();
        (is_nameless && is_here).then_some(size)
    })
}

#[test]
fn a_build_that_is_killed_leaves_nothing_of_it() {
    let rig = Rig::new();
    write_large(&rig, "large", 60);
    rig.dockerfile("FROM scratch\nCOPY large /large");
    let directory = rig.path("out");
    fs::create_dir(&directory).unwrap();
    let output = format!(
        "type=oci,compression=zstd,compression-level=19,dest={}",
        directory.join("image.tar").display()
    );
    let mut command = rig.build_command(&["-o", &output]);
    let mut build = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    // More than the header: what is compressed comes in while the rest is not.
    while begun_in(&build, &directory).is_none_or(|size| size < 1 << 20) {
        assert!(Instant::now() < patience, "nothing was begun");
        assert!(build.try_wait().unwrap().is_none(), "the build has ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(names_in(&directory), [""; 0]);
    build.kill().unwrap();
    build.wait().unwrap();
    assert_eq!(names_in(&directory), [""; 0]);
}
