//! Records of devices that a command wrote itself.

use super::*;
use crate::ownership::record::{ATTRIBUTE, Device};

fn device(path: &Path, minor: u32) {
    let file = fs::File::create(path).unwrap();
    let device = Device {
        is_block: false,
        major: 1,
        minor,
    };
    Ownership::Mapped
        .set_device(&file, device, 0, 0)
        .unwrap_or_else(|_| {
            // The owner is that of the test; the record is what counts.
            let mut value = vec![0; 8];
            value.push(b'c');
            value.extend_from_slice(&1_u32.to_le_bytes());
            value.extend_from_slice(&minor.to_le_bytes());
            let dir = open(path.parent().unwrap());
            sys::xattr::set_at(dir, path.file_name().unwrap(), ATTRIBUTE.as_ref(), &value).unwrap();
        });
}

#[test]
fn only_devices_from_below_are_believed_of_a_command() {
    let (lower, upper) = (directory(), directory());
    for root in [&lower, &upper] {
        make_directory(&root.path().join("dev"));
    }
    device(&lower.path().join("dev/kept"), 3);
    device(&lower.path().join("dev/changed"), 3);
    fs::write(lower.path().join("dev/plain"), "").unwrap();
    device(&upper.path().join("dev/kept"), 3);
    device(&upper.path().join("dev/changed"), 5);
    device(&upper.path().join("dev/plain"), 5);
    device(&upper.path().join("dev/new"), 5);
    let kinds = |devices, below: &Path| {
        let options = PackOptions {
            devices,
            ..PackOptions::default()
        };
        let mut out = Vec::new();
        let owners = Owners::new(&Ownership::Mapped, &[]);
        let (upper, lower) = (open(upper.path()), Lower::new(below.to_owned()));
        let packed = pack(upper.as_fd(), &[lower], &owners, &options, &mut out).unwrap();
        let mut archive = tar::Archive::new(&out[..]);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let kinds: Vec<_> = entries
            .map(|entry| {
                let path = entry.path().unwrap().display().to_string();
                format!("{path} {:?}", entry.header().entry_type())
            })
            .filter(|line| !line.starts_with("dev/ "))
            .collect();
        let forged: Vec<_> = packed
            .forged
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect();
        (kinds, forged)
    };
    let (all, none) = kinds(Devices::Recorded, lower.path());
    assert!(
        all.iter().all(|line| line.contains("Char")) && none.is_empty(),
        "{all:?}"
    );
    let (believed, forged) = kinds(Devices::FromBelow, lower.path());
    assert_eq!(forged, ["dev/changed", "dev/new", "dev/plain"]);
    let devices: Vec<_> = believed
        .iter()
        .filter(|line| line.contains("Char"))
        .collect();
    assert!(
        devices.len() == 1 && devices[0].starts_with("dev/kept"),
        "{believed:?}"
    );
    let empty = directory();
    let (_, forged) = kinds(Devices::FromBelow, empty.path());
    assert_eq!(forged.len(), 4);
}
