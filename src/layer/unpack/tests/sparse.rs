//! Sparse files, as GNU tar writes them and as nobody should.

use std::io::{Seek as _, SeekFrom};

use super::*;

#[test]
fn every_form_of_system_tar_is_read_and_keeps_its_holes() {
    let source = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(source.path().join("holes")).unwrap();
    let mut expected = vec![0_u8; 1 << 20];
    // More parts than a header and one more block have room for.
    for part in 0..60_usize {
        let at = part * 16 * 1024 + 4096;
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        let text = vec![b'a' + u8::try_from(part % 26).unwrap(); 4096];
        file.write_all(&text).unwrap();
        expected[at..at + text.len()].copy_from_slice(&text);
    }
    file.set_len(expected.len() as u64).unwrap();
    fs::write(source.path().join("z"), "after").unwrap();
    for options in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["--sparse", "--owner=0", "--group=0", "-C"])
            .arg(source.path())
            .args(options)
            .args(["-cf", "-", "holes", "z"])
            .output()
            .unwrap();
        assert!(output.stdout.len() < expected.len() / 2, "{options:?}");
        let scratch = Scratch::new();
        scratch.unpack_as(Form::Overlay, &output.stdout).unwrap();
        assert!(
            fs::read(scratch.at("holes")).unwrap() == expected,
            "{options:?}"
        );
        let blocks = fs::metadata(scratch.at("holes")).unwrap().blocks();
        assert!(blocks * 512 < expected.len() as u64, "{options:?}");
        assert_eq!(fs::read_to_string(scratch.at("z")).unwrap(), "after");
    }
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    for (name, records, data) in [
        ("no size", &[("GNU.sparse.map", "0,4")][..], "1234"),
        (
            "too much data",
            &[("GNU.sparse.map", "0,3"), ("GNU.sparse.size", "9")],
            "1234",
        ),
        (
            "too little data",
            &[("GNU.sparse.map", "0,5"), ("GNU.sparse.size", "9")],
            "1234",
        ),
        (
            "beyond the end",
            &[("GNU.sparse.map", "6,4"), ("GNU.sparse.size", "9")],
            "1234",
        ),
        (
            "backwards",
            &[("GNU.sparse.map", "4,2,0,2"), ("GNU.sparse.size", "9")],
            "1234",
        ),
        (
            "half a part",
            &[("GNU.sparse.map", "0"), ("GNU.sparse.size", "9")],
            "",
        ),
        (
            "no number",
            &[("GNU.sparse.map", "0,x"), ("GNU.sparse.size", "9")],
            "1234",
        ),
        (
            "another version",
            &[("GNU.sparse.major", "2"), ("GNU.sparse.size", "9")],
            "1234",
        ),
        (
            "no map",
            &[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")],
            "1234",
        ),
        (
            "huge",
            &[
                ("GNU.sparse.map", "0,4"),
                ("GNU.sparse.size", "9000000000000000"),
            ],
            "1234",
        ),
    ] {
        let records: Vec<(&str, &[u8])> = records.iter().map(|(k, v)| (*k, v.as_bytes())).collect();
        let scratch = Scratch::new();
        let members = vec![pax_header(&records), file("f", data)];
        assert!(scratch.unpack(&members).is_err(), "{name}");
    }
    let records: [(&str, &[u8]); 3] = [
        ("GNU.sparse.map", b"2,4"),
        ("GNU.sparse.size", b"9"),
        ("GNU.sparse.name", b"g"),
    ];
    let scratch = Scratch::new();
    scratch
        .unpack(&[pax_header(&records), file("f", "1234")])
        .unwrap();
    assert_eq!(fs::read(scratch.at("g")).unwrap(), b"\0\x001234\0\0\0");
}
