//! Whether this kernel can start programs of another architecture: by itself, or through a handler
//! that somebody registered with binfmt_misc.

use std::fs;
use std::path::Path;

use crate::oci::Platform;

const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// How much of an ELF header tells the architecture: up to and including `e_machine`.
const HEADER: usize = 20;

/// Whether a RUN of an image for `platform` can be started here.
pub(crate) fn can_run(platform: &Platform) -> bool {
    runs_natively(platform, &Platform::host()) || has_handler(Path::new(HANDLERS), platform)
}

/// What the machine does by itself. 64-bit ARM is taken to run 32-bit programs, as most do; on one
/// that does not the RUN fails with the kernel's own message.
fn runs_natively(platform: &Platform, host: &Platform) -> bool {
    let pair = (host.architecture.as_str(), platform.architecture.as_str());
    platform.os == "linux"
        && (host.architecture == platform.architecture
            || matches!(pair, ("amd64", "386") | ("arm64", "arm")))
}

/// Whether one of the handlers in `directory` takes the programs of `platform`. Only those with the
/// flag F count: the interpreter of the others would have to be inside the image.
fn has_handler(directory: &Path, platform: &Platform) -> bool {
    let Some(program) = header(&platform.architecture) else {
        return false;
    };
    let disabled = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().next() == Some("disabled")
    };
    if platform.os != "linux" || disabled(&directory.join("status")) {
        return false;
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        // Not UTF-8, not readable, gone: not a handler that could be relied on.
        fs::read_to_string(entry.path()).is_ok_and(|text| takes(&text, &program))
    })
}

/// Reads what the kernel says of a handler (admin-guide/binfmt-misc.rst).
fn takes(handler: &str, program: &[u8; HEADER]) -> bool {
    let mut lines = handler.lines();
    if lines.next() != Some("enabled") {
        return false;
    }
    let (mut flags, mut offset, mut magic, mut mask) = ("", 0_usize, Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "flags:" => flags = value,
            "offset" => offset = value.parse().unwrap_or(HEADER),
            "magic" => magic = bytes(value),
            "mask" => mask = bytes(value),
            _ => {}
        }
    }
    let Some(own) = program.get(offset..).filter(|_| !magic.is_empty()) else {
        return false;
    };
    mask.resize(magic.len(), 0xff);
    flags.contains('F')
        && magic.len() <= own.len()
        && own
            .iter()
            .zip(magic.iter().zip(&mask))
            .all(|(own, (magic, mask))| own & mask == magic & mask)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map_while(|start| u8::from_str_radix(hex.get(start..start + 2)?, 16).ok())
        .collect()
}

/// The start of an executable for this architecture; `None` for one without ELF machine number.
fn header(architecture: &str) -> Option<[u8; HEADER]> {
    let (bits, big_endian, machine) = match architecture {
        "386" => (32, false, 3),
        "amd64" => (64, false, 62),
        "arm" => (32, false, 40),
        "arm64" => (64, false, 183),
        "loong64" => (64, false, 258),
        "mips" => (32, true, 8),
        "mipsle" => (32, false, 8),
        "mips64" => (64, true, 8),
        "mips64le" => (64, false, 8),
        "ppc64" => (64, true, 21),
        "ppc64le" => (64, false, 21),
        "riscv64" => (64, false, 243),
        "s390x" => (64, true, 22),
        _ => return None,
    };
    let number = |value: u16| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(b"\x7fELF");
    header[4] = if bits == 64 { 2 } else { 1 };
    header[5] = if big_endian { 2 } else { 1 };
    header[6] = 1;
    // ET_EXEC
    header[16..18].copy_from_slice(&number(2));
    header[18..20].copy_from_slice(&number(machine));
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";
    const S390X: &str = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: F\noffset 0\n\
        magic 7f454c4602020100000000000000000000020016\n\
        mask ffffffffffffff00fffffffffffffffffffeffff\n";

    fn linux(architecture: &str) -> Platform {
        Platform::new("linux", architecture, None)
    }

    #[test]
    fn a_handler_is_found_by_what_it_takes_and_not_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("register", "");
        write("status", "enabled\n");
        write("something", AARCH64);
        write("else", S390X);
        let found = |platform: &Platform| has_handler(directory.path(), platform);
        assert!(found(&linux("arm64")));
        assert!(found(&linux("s390x")));
        for other in ["arm", "ppc64le", "riscv64", "commodore"] {
            assert!(!found(&linux(other)), "{other}");
        }
        assert!(!found(&Platform::new("windows", "arm64", None)));
        write("status", "disabled\n");
        assert!(!found(&linux("arm64")));
    }

    #[test]
    fn a_handler_that_an_image_cannot_use_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        for text in [
            AARCH64.replace("OCF", "OC"),
            AARCH64.replace("enabled", "disabled"),
            AARCH64.replace("magic 7f", "magic 00"),
            AARCH64.replace("offset 0", "offset 99"),
            "enabled\ninterpreter /usr/bin/x\nflags: F\nextension .exe\n".to_owned(),
            String::new(),
        ] {
            fs::write(directory.path().join("qemu-aarch64"), &text).unwrap();
            assert!(!has_handler(directory.path(), &linux("arm64")), "{text}");
        }
        assert!(!has_handler(
            &directory.path().join("gone"),
            &linux("arm64")
        ));
    }

    #[test]
    fn the_machines_own_programs_need_no_handler() {
        for (host, image, native) in [
            ("amd64", "amd64", true),
            ("amd64", "386", true),
            ("amd64", "arm64", false),
            ("arm64", "arm64", true),
            ("arm64", "arm", true),
            ("arm64", "amd64", false),
        ] {
            let native_here = runs_natively(&linux(image), &linux(host));
            assert_eq!(native_here, native, "{image} on {host}");
        }
        assert!(!runs_natively(
            &Platform::new("windows", "amd64", None),
            &linux("amd64")
        ));
    }
}
