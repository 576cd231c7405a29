//! The same input gives the same image, bit for bit.

use crate::rig::Rig;
use crate::rig::image::Image;
use crate::rig::outcome::Outcome;

const DOCKERFILE: &str =
    "FROM base\nCOPY . /src\nRUN cp -r /src /copy && ln /copy/a /hard && rm /src/b\nLABEL a=b\n";

fn with_epoch(options: &[&str], epoch: Option<&str>) -> (Rig, Image) {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE)
        .write("a", "1")
        .write("b", "2")
        .write("d/c", "3");
    let archive = rig.path("image.tar");
    let output = format!("type=oci,rewrite-timestamp=true,dest={}", archive.display());
    let mut command = rig.build_command(&[&["-o", &output], options].concat());
    if let Some(epoch) = epoch {
        command.env("SOURCE_DATE_EPOCH", epoch);
    }
    Outcome::of(&mut command).succeeds();
    let image = Image::open(&archive);
    (rig, image)
}

#[test]
fn two_stores_and_two_times_give_one_digest() {
    let (_first, one) = with_epoch(&[], Some("1600000001"));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (_second, two) = with_epoch(&[], Some("1600000001"));
    assert_eq!(one.manifest_digest, two.manifest_digest);
}

#[test]
fn the_epoch_sets_creation_times_and_bounds_those_of_files() {
    let (_rig, image) = with_epoch(&["--build-arg=SOURCE_DATE_EPOCH=1500000000"], None);
    assert_eq!(image.config["created"], "2017-07-14T02:40:00Z");
    for row in image.config["history"].as_array().unwrap().iter().skip(1) {
        assert_eq!(row["created"], "2017-07-14T02:40:00Z", "{row}");
    }
    for layer in &image.layers[1..] {
        for (path, node) in &layer.entries {
            assert!(node.mtime <= 1_500_000_000, "{path}: {}", node.mtime);
        }
    }
}

#[test]
fn an_epoch_that_is_no_number_is_said() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    let mut command = rig.build_command(&[]);
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    let outcome = Outcome::of(&mut command);
    assert!(matches!(outcome.code, Some(1 | 2)), "{}", outcome.stderr);
    outcome.says(&["yesterday"]);
}

#[test]
fn entries_are_sorted_and_name_no_owners() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nRUN mkdir /z /a && touch /z/1 /a/2 /a/1 /m");
    let layer = image.layers.last().unwrap();
    assert_eq!(image.last_layer(), ["a", "a/1", "a/2", "m", "z", "z/1"]);
    let mut archive = tar::Archive::new(&layer.tar[..]);
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.header().username_bytes().unwrap_or_default(), b"");
        assert_eq!(entry.header().groupname_bytes().unwrap_or_default(), b"");
    }
}
