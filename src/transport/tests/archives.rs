use std::io::{Read as _, Write as _};
use std::path::Path;

use super::image::{Image, amd64, arm64, index, tar};
use crate::oci::{Descriptor, Digest, media_type};
use crate::transport::{Error, Source, docker_archive, oci_archive, oci_layout};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The files of a layout with the images `v1` and `v2`.
fn layout_files(images: &[(&str, &Image)]) -> Vec<(String, Vec<u8>)> {
    let blob = |bytes: &[u8]| {
        let name = format!("blobs/sha256/{}", Digest::of(bytes).hex());
        (name, bytes.to_vec())
    };
    let mut files = vec![("oci-layout".to_owned(), MARKER.to_vec())];
    let mut entries = Vec::new();
    for (tag, image) in images {
        files.extend([
            blob(&image.manifest),
            blob(&image.config),
            blob(&image.layer),
        ]);
        let mut descriptor = image.descriptor();
        descriptor
            .annotations
            .insert(REF_NAME.into(), (*tag).into());
        entries.push(descriptor);
    }
    files.push(("index.json".to_owned(), index(entries)));
    files
}

fn write_layout(dir: &Path, files: &[(String, Vec<u8>)]) {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

fn write_archive(path: &Path, files: &[(String, Vec<u8>)]) {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    std::fs::write(path, tar(&files)).unwrap();
}

/// What `source` holds, checked byte by byte against `image`.
fn assert_holds(source: &dyn Source, image: &Image) {
    let found = source.resolve(&amd64()).unwrap();
    assert_eq!(found.manifest_bytes, image.manifest);
    assert_eq!(found.config_bytes, image.config);
    assert_eq!(read(source, &found.manifest.layers[0]), image.layer);
}

fn read(source: &dyn Source, descriptor: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    source
        .open_blob(descriptor)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn a_layout_gives_the_image_that_is_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Image::new(&amd64(), "one"), Image::new(&amd64(), "two"));
    let files = layout_files(&[("v1", &one), ("v2", &two)]);
    write_layout(dir.path(), &files);
    let archive = dir.path().join("archive.tar");
    write_archive(&archive, &files);
    let digest = format!("@{}", two.descriptor().digest);
    for (selector, image) in [("v1", &one), ("v2", &two), (digest.as_str(), &two)] {
        assert_holds(&oci_layout(dir.path(), Some(selector)).unwrap(), image);
        assert_holds(&oci_archive(&archive, Some(selector)).unwrap(), image);
    }
    let error = oci_layout(dir.path(), None)
        .unwrap()
        .resolve(&amd64())
        .unwrap_err();
    assert_eq!(error.hint().unwrap(), "choose one of v1, v2");
    let error = oci_archive(&archive, Some("v3")).unwrap().resolve(&amd64());
    assert!(matches!(error, Err(Error::NotFound { .. })));
}

#[test]
fn one_name_for_several_platforms_gives_the_one_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (amd, arm) = (Image::new(&amd64(), "amd"), Image::new(&arm64(), "arm"));
    let mut files = layout_files(&[("v1", &amd), ("v1", &arm)]);
    let mut entries = vec![amd.descriptor(), arm.descriptor()];
    for (entry, platform) in entries.iter_mut().zip([amd64(), arm64()]) {
        entry.annotations.insert(REF_NAME.into(), "v1".into());
        entry.platform = Some(platform);
    }
    files.last_mut().unwrap().1 = index(entries);
    write_layout(dir.path(), &files);
    let found = oci_layout(dir.path(), Some("v1"))
        .unwrap()
        .resolve(&arm64());
    assert_eq!(found.unwrap().manifest_bytes, arm.manifest);
}

#[test]
fn a_layout_that_lies_or_is_incomplete_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::new(&amd64(), "good");
    write_layout(dir.path(), &layout_files(&[("v1", &image)]));
    let blob = |bytes: &[u8]| {
        dir.path()
            .join("blobs/sha256")
            .join(Digest::of(bytes).hex())
    };
    let layout = oci_layout(dir.path(), None).unwrap();

    std::fs::write(blob(&image.layer), &image.layer[..50]).unwrap();
    let mut bytes = Vec::new();
    let mut cut = layout.open_blob(&image.layer_descriptor()).unwrap();
    assert!(cut.read_to_end(&mut bytes).is_err());

    let mut lie = image.config.clone();
    lie[2] ^= 1;
    std::fs::write(blob(&image.config), lie).unwrap();
    let error = layout.resolve(&amd64()).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");

    // A link is followed inside the layout, where there is no such file.
    std::fs::remove_file(blob(&image.config)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", blob(&image.config)).unwrap();
    let error = layout.resolve(&amd64()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");

    nix::unistd::unlink(&blob(&image.manifest)).unwrap();
    nix::unistd::mkfifo(&blob(&image.manifest), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let message = layout.resolve(&amd64()).unwrap_err().to_string();
    assert!(message.ends_with("is not a regular file"), "{message}");

    std::fs::remove_file(dir.path().join("oci-layout")).unwrap();
    let error = oci_layout(dir.path(), None).err().unwrap();
    assert!(error.to_string().contains("is no image layout"), "{error}");
}

#[test]
fn an_archive_that_is_compressed_or_cut_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    let image = Image::new(&amd64(), "good");
    write_archive(&path, &layout_files(&[("v1", &image)]));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, gzip(&whole)).unwrap();
    let message = oci_archive(&path, None).err().unwrap().to_string();
    assert!(
        message.ends_with("is compressed; decompress it first (gzip -d)"),
        "{message}"
    );
    for length in [100, 700, 1600] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let found = oci_archive(&path, None).and_then(|source| source.resolve(&amd64()));
        assert!(found.is_err(), "{length}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_docker_archive_gives_its_images_with_a_manifest_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive.tar");
    let (one, two) = (Image::new(&amd64(), "one"), Image::new(&amd64(), "two"));
    let packed = gzip(&two.layer);
    let manifest = br#"[
        {"Config":"one.json","RepoTags":["app:v1"],"Layers":["aa/layer.tar"]},
        {"Config":"two.json","RepoTags":["docker.io/library/app:latest"],"Layers":["two.tar.gz"]},
        {"Config":"two.json","RepoTags":null,"Layers":[]}
    ]"#;
    let files: [(&str, &[u8]); 6] = [
        ("manifest.json", manifest),
        ("one.json", &one.config),
        ("two.json", &two.config),
        ("bb/layer.tar", &one.layer),
        ("aa/layer.tar@", b"../bb/layer.tar"),
        ("two.tar.gz", &packed),
    ];
    std::fs::write(&path, tar(&files)).unwrap();
    let cases = [
        ("app:v1", &one, &one.layer, media_type::DOCKER_LAYER),
        ("app", &two, &packed, media_type::DOCKER_LAYER_GZIP),
    ];
    for (name, image, layer, media_type) in cases {
        let source = docker_archive(&path, Some(name)).unwrap();
        let found = source.resolve(&amd64()).unwrap();
        assert_eq!(found.config_bytes, image.config);
        assert_eq!(found.manifest_digest, Digest::of(&found.manifest_bytes));
        let described = &found.manifest.layers[0];
        assert_eq!(described.media_type, media_type);
        assert_eq!(described.digest, Digest::of(layer));
        assert_eq!(&read(&source, described), layer);
    }
    let error = docker_archive(&path, None)
        .unwrap()
        .resolve(&amd64())
        .unwrap_err();
    assert!(
        matches!(error, Error::Ambiguous { count: 3, .. }),
        "{error}"
    );
    let error = docker_archive(&path, Some("app:v9"))
        .unwrap()
        .resolve(&amd64());
    assert!(matches!(error, Err(Error::NotFound { .. })));
}

#[test]
fn an_archive_of_both_kinds_is_read_as_either() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive.tar");
    let image = Image::new(&amd64(), "both");
    let mut files = layout_files(&[("v1", &image)]);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let manifest = format!(
        r#"[{{"Config":"{}","RepoTags":["app:v1"],"Layers":["{}"]}}]"#,
        blob(&image.config),
        blob(&image.layer)
    );
    files.push(("manifest.json".to_owned(), manifest.into_bytes()));
    write_archive(&path, &files);
    assert_holds(&oci_archive(&path, Some("v1")).unwrap(), &image);
    let docker = docker_archive(&path, None)
        .unwrap()
        .resolve(&amd64())
        .unwrap();
    assert_eq!(docker.config_bytes, image.config);
}
