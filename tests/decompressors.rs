//! Programs that unpack, as other builders start them (CVE-2026-41567): rbuild starts none, whatever is called
//! like one in the image or in its own PATH.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::rig::Rig;
use crate::rig::forged::Layer;
use crate::rig::image::Image;
use crate::rig::outcome::Outcome;

const PROGRAMS: [&str; 16] = [
    "xz", "unxz", "xzcat", "lzma", "gzip", "gunzip", "zcat", "pigz", "unpigz", "igzip", "bzip2",
    "bunzip2", "lbzip2", "zstd", "unzstd", "tar",
];

/// The same archive in each compression.
fn archives() -> [(&'static str, Vec<u8>); 5] {
    let tar = Layer::new().file("d/file", "packed").tar();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    [
        ("gz", gzip.finish().unwrap()),
        ("bz2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zst", zstd::encode_all(&tar[..], 1).unwrap()),
        ("tar", tar),
    ]
}

#[test]
fn nothing_that_is_called_like_a_decompressor_is_run() {
    let rig = Rig::new();
    let victim = rig.path("victim");
    fs::create_dir(&victim).unwrap();
    // Whoever runs it leaves a mark beside it: in the image, or on the host.
    let script = |place: &str| format!("#!/bin/sh\necho $0 > {place}/mark\ncat {place}/mark\n");
    let path = rig.path("path");
    fs::create_dir(&path).unwrap();
    for program in PROGRAMS {
        let file = path.join(program);
        fs::write(&file, script(victim.to_str().unwrap())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        rig.write(&format!("bin/{program}"), script("/evil"))
            .chmod(&format!("bin/{program}"), 0o755);
    }
    let mut dockerfile = "FROM base\nENV PATH=/evil:/bin\nRUN mkdir -m 777 /evil /out\n\
                          COPY bin/ /evil/\nCOPY bin/ /usr/bin/\nCOPY bin/ /bin/\nWORKDIR /evil\n"
        .to_owned();
    for (suffix, bytes) in archives() {
        rig.write(&format!("a.{suffix}"), bytes);
        dockerfile.push_str(&format!("ADD a.{suffix} /out/{suffix}/\n"));
    }
    rig.dockerfile(&dockerfile);
    let search = std::env::var("PATH").unwrap();
    let archive = rig.path("image.tar");
    let run = |command: &mut std::process::Command| {
        command.env("PATH", format!("{}:{search}", path.display()));
        Outcome::of(command).succeeds()
    };
    for form in ["gzip", "zstd", "uncompressed"] {
        let output = format!("type=oci,compression={form},dest={}", archive.display());
        run(&mut rig.build_command(&["--no-cache", "-o", &output]));
        let image = Image::open(&archive);
        for (suffix, _) in archives() {
            assert_eq!(image.text(&format!("out/{suffix}/d/file")), "packed");
        }
        assert!(!image.has("evil/mark"), "{}", image.text("evil/mark"));
        // An image that comes back, compressed inside and as a whole.
        let text = archive.to_str().unwrap();
        run(&mut rig.command(["load", "-i", text]));
    }
    for (suffix, _) in archives() {
        let file = rig.context().join(format!("a.{suffix}"));
        run(&mut rig.command(["import", file.to_str().unwrap(), "files"]));
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}
