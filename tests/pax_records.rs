//! Sizes that are said twice (RUSTSEC-2026-0068, RUSTSEC-2026-0145, GHSA-3cv2-h65g-fgmm): two programs that
//! believe different ones see different members in the same bytes.

use std::fs;

use crate::rig::Rig;
use crate::rig::forged::{Forged, Layer};
use crate::rig::outcome::Outcome;

/// A member that nobody may see, as bytes of another's data.
fn smuggled() -> Vec<u8> {
    Layer::new().file("smuggled", "evil").unfinished()
}

/// Builds on an image with this layer, and with the same bytes as an archive to ADD; the listings of both.
fn built(layer: &[u8]) -> (Outcome, [String; 2]) {
    let rig = Rig::empty();
    let archive = rig.path("evil.tar");
    fs::write(&archive, Forged::on_base(vec![layer.to_vec()]).archive()).unwrap();
    rig.write("layer.tar", layer).dockerfile(
        "FROM evil\nRUN find / -xdev -type f -exec stat -c '%n %s' {} + > /listing\n\
         ADD layer.tar /to/\nRUN cd /to && find . -type f -exec stat -c '%n %s' {} + > /added",
    );
    let context = format!("evil=oci-archive:{}", archive.display());
    let out = rig.path("image.tar");
    let output = format!("type=oci,dest={}", out.display());
    let outcome = rig.build(&["--build-context", &context, "-o", &output]);
    if outcome.code != Some(0) {
        return (outcome, Default::default());
    }
    let image = crate::rig::image::Image::open(&out);
    let added = image.text("added").replace("./", "/");
    (outcome, [image.text("listing"), added])
}

#[test]
fn the_size_in_records_is_the_size_whatever_the_header_says() {
    let hidden = smuggled();
    let size = |bytes: &[u8]| bytes.len().to_string().into_bytes();
    let long = "n".repeat(150);
    let behind = [b"x".repeat(512), hidden.clone()].concat();
    let behind_size = size(&behind);
    let hidden_size = size(&hidden);
    let l = Layer::new;
    let set = |size: u64| move |header: &mut tar::Header| header.set_size(size);
    for (name, layer, expected) in [
        (
            "a smaller one in the header",
            l().records(&[("size", &behind_size)])
                .raw(b'0', "carrier", "", &behind, set(512)),
            "/carrier 1536",
        ),
        (
            "a larger one in the header",
            l().records(&[("size", b"512")])
                .raw(b'0', "carrier", "", &[b'x'; 512], set(4096)),
            "/carrier 512",
        ),
        (
            "the largest in the header",
            l().records(&[("size", b"0")])
                .raw(b'0', "carrier", "", b"", set(0o777_7777_7777)),
            "/carrier 0",
        ),
        (
            "said twice in the records",
            l().records(&[("size", b"0"), ("size", &hidden_size)]).raw(
                b'0',
                "carrier",
                "",
                &hidden,
                set(0),
            ),
            "/carrier 1024",
        ),
        (
            "in front of a long name, which has its own",
            l().records(&[("size", &hidden_size)])
                .raw(b'0', &long, "", &hidden, set(0)),
            &*format!("/{long} 1024"),
        ),
    ] {
        let (outcome, listings) = built(&layer.file("after", "x").tar());
        assert_eq!(outcome.code, Some(0), "{name}: {}", outcome.stderr);
        for listing in listings {
            for line in [expected, "/after 1"] {
                assert!(
                    listing.lines().any(|there| there == line),
                    "{name}: {listing}"
                );
            }
            assert!(!listing.contains("smuggled"), "{name}: {listing}");
        }
    }
}

#[test]
fn records_that_programs_read_differently_are_refused() {
    let hidden = smuggled();
    let l = Layer::new;
    for (name, layer) in [
        (
            "two headers of records",
            l().records(&[("size", b"1024")])
                .records(&[("path", b"other")])
                .raw(b'0', "carrier", "", &hidden, |header| header.set_size(0)),
        ),
        (
            "a size with a sign",
            l().records(&[("size", b"+1024")])
                .raw(b'0', "carrier", "", &hidden, |header| header.set_size(0)),
        ),
        (
            "a size of more than 64 bits",
            l().records(&[("size", b"18446744073709552640")]).raw(
                b'0',
                "carrier",
                "",
                &hidden,
                |header| header.set_size(0),
            ),
        ),
    ] {
        let (outcome, _) = built(&layer.file("after", "x").tar());
        assert_eq!(outcome.code, Some(1), "{name}: {}", outcome.stderr);
        outcome.says(&["is damaged near"]);
    }
}
