//! The clock that a file system stamps its files with, and the one that processes share.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::time::{ClockId, clock_gettime};

use super::{Error, Result, fs};

/// A tick of the kernel's coarse clock is at most 10 ms, one of an old file system two seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nanoseconds since some moment that is the same for all processes: CLOCK_MONOTONIC of
/// clock_gettime(2), and unlike an [`Instant`] a number.
pub(crate) fn monotonic() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_err(|errno| Error::new("clock_gettime", "", errno))?;
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(part(time.tv_sec()) * 1_000_000_000 + part(time.tv_nsec()))
}

/// Waits until what changes in the directory `dir` gets a later time than `time` (seconds and
/// nanoseconds), with the file `name` that is made there for it. EOVERFLOW if the clock does not get
/// there: `time` is from a future that was taken back.
pub(crate) fn wait_until_past(dir: impl AsFd, name: &OsStr, time: (i64, i64)) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let probe = fs::open_at(&dir, name, flags, 0o600)?;
    let start = Instant::now();
    let passed = loop {
        // Each chmod(2) sets the ctime, also one to the same mode.
        fs::chmod(&probe, 0o600)?;
        let stat = fs::stat(&probe)?;
        if (stat.st_ctime, stat.st_ctime_nsec) > time {
            break true;
        }
        if start.elapsed() > PATIENCE {
            break false;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    fs::unlink_at(dir, name)?;
    if passed {
        Ok(())
    } else {
        Err(Error::on("clock", name, Errno::EOVERFLOW))
    }
}
