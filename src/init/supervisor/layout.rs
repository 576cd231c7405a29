//! `struct stat` as 32-bit programs have it (linux/arch/x86/include/uapi/asm/stat.h).
#![cfg(target_arch = "x86_64")]

use nix::errno::Errno;
use nix::sys::stat::FileStat;

/// Writes numbers one behind the other, the lowest byte first.
struct Fields(Vec<u8>);

impl Fields {
    fn put(&mut self, value: u64, bytes: usize) {
        self.0.extend_from_slice(&value.to_le_bytes()[..bytes]);
    }
}

/// `struct stat64`: 96 bytes.
pub(super) fn large(stat: &FileStat) -> Vec<u8> {
    let mut fields = Fields(Vec::with_capacity(96));
    let signed = |value: i64| value.cast_unsigned();
    fields.put(stat.st_dev, 8);
    fields.put(0, 4);
    fields.put(stat.st_ino, 4);
    fields.put(stat.st_mode.into(), 4);
    fields.put(stat.st_nlink, 4);
    fields.put(stat.st_uid.into(), 4);
    fields.put(stat.st_gid.into(), 4);
    fields.put(stat.st_rdev, 8);
    fields.put(0, 4);
    fields.put(signed(stat.st_size), 8);
    fields.put(signed(stat.st_blksize), 4);
    fields.put(signed(stat.st_blocks), 8);
    for (seconds, nanoseconds) in times(stat) {
        fields.put(signed(seconds), 4);
        fields.put(signed(nanoseconds), 4);
    }
    fields.put(stat.st_ino, 8);
    fields.0
}

/// `struct stat`: 64 bytes. EOVERFLOW where a size does not fit, as from the kernel.
pub(super) fn small(stat: &FileStat) -> nix::Result<Vec<u8>> {
    if u32::try_from(stat.st_size).is_err() {
        return Err(Errno::EOVERFLOW);
    }
    let mut fields = Fields(Vec::with_capacity(64));
    let signed = |value: i64| value.cast_unsigned();
    // high2lowuid of linux/highuid.h.
    let id = |id: u32| u64::from(u16::try_from(id).unwrap_or(65534));
    fields.put(stat.st_dev, 4);
    fields.put(stat.st_ino, 4);
    fields.put(stat.st_mode.into(), 2);
    fields.put(stat.st_nlink, 2);
    fields.put(id(stat.st_uid), 2);
    fields.put(id(stat.st_gid), 2);
    fields.put(stat.st_rdev, 4);
    fields.put(signed(stat.st_size), 4);
    fields.put(signed(stat.st_blksize), 4);
    fields.put(signed(stat.st_blocks), 4);
    for (seconds, nanoseconds) in times(stat) {
        fields.put(signed(seconds), 4);
        fields.put(signed(nanoseconds), 4);
    }
    fields.put(0, 8);
    Ok(fields.0)
}

fn times(stat: &FileStat) -> [(i64, i64); 3] {
    [
        (stat.st_atime, stat.st_atime_nsec),
        (stat.st_mtime, stat.st_mtime_nsec),
        (stat.st_ctime, stat.st_ctime_nsec),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_their_sizes_and_owners_at_their_places() {
        let mut stat = nix::sys::stat::stat("/").unwrap();
        stat.st_uid = 0x0102_0304;
        stat.st_gid = 1000;
        let large = large(&stat);
        assert_eq!(large.len(), 96);
        assert_eq!(large[24..32], [4, 3, 2, 1, 0xe8, 3, 0, 0]);
        let small = small(&stat).unwrap();
        assert_eq!(small.len(), 64);
        assert_eq!(small[12..16], [0xfe, 0xff, 0xe8, 3]);
    }
}
