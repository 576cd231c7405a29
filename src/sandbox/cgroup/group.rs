//! The cgroup of one sandbox.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use super::{Controller, Error, make, write};
use crate::sandbox::watch::{Bounds, Exceeded, size};

/// Microseconds over which the time of `cpus` is counted.
const PERIOD: u64 = 100_000;

/// What pids.max is above the limit: init and the supervisor are in the cgroup as well, threads count,
/// and what is over the limit by less is seen by the watch.
const ROOM: u64 = 64;

/// The cgroup of one sandbox; dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(in crate::sandbox) struct Group {
    directory: PathBuf,
    memory: Option<u64>,
    processes: Option<u64>,
}

impl Group {
    /// Makes `directory`, in which `controllers` keep `bounds`, and the cgroup of the processes below it.
    pub(super) fn make(
        directory: PathBuf,
        controllers: &[Controller],
        bounds: &Bounds,
    ) -> Result<Self, Error> {
        let group = Self {
            directory: make(directory)?,
            memory: bounds.memory,
            processes: bounds.processes,
        };
        for controller in controllers {
            group.limit(*controller, bounds)?;
        }
        // A command that may mount makes no others below its own, so that two removals are enough.
        group.set("cgroup.max.descendants", "1")?;
        make(group.directory.join("step"))?;
        Ok(group)
    }

    fn limit(&self, controller: Controller, bounds: &Bounds) -> Result<(), Error> {
        match controller {
            Controller::Cpu => {
                let Some(thousandths) = bounds.cpus else {
                    return Ok(());
                };
                let quota = thousandths.saturating_mul(PERIOD / 1000);
                self.set("cpu.max", &format!("{quota} {PERIOD}"))
            }
            Controller::Memory => {
                let Some(bytes) = bounds.memory else {
                    return Ok(());
                };
                self.set("memory.max", &bytes.to_string())?;
                // Kernels that do not count swap have no such file.
                if self.directory.join("memory.swap.max").exists() {
                    self.set("memory.swap.max", "0")?;
                }
                self.set("memory.oom.group", "1")
            }
            Controller::Pids => {
                let Some(most) = bounds.processes else {
                    return Ok(());
                };
                self.set("pids.max", &most.saturating_add(ROOM).to_string())
            }
        }
    }

    fn set(&self, name: &str, value: &str) -> Result<(), Error> {
        write(self.directory.join(name), value)
    }

    /// Takes a process in, with all that it will start.
    pub(in crate::sandbox) fn add(&self, pid: u32) -> Result<(), Error> {
        write(self.directory.join("step/cgroup.procs"), &pid.to_string())
    }

    /// The limit that the kernel kept from being passed, since the sandbox began. `oom_kill` alone also
    /// counts processes that the host had no memory for.
    pub(in crate::sandbox) fn finish(self) -> Option<Exceeded> {
        let count = |file: &str, name: &str| {
            let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|count| count.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        let (oom, killed) = (
            count("memory.events", "oom "),
            count("memory.events", "oom_kill "),
        );
        if let Some(most) = self.memory.filter(|_| oom > 0 && killed > 0) {
            return Some(Exceeded {
                name: "memory",
                value: size(most),
                what: "the processes of the step together took more memory".to_owned(),
            });
        }
        let refused = count("pids.events", "max ");
        self.processes.filter(|_| refused > 0).map(|most| Exceeded {
            name: "processes",
            value: most.to_string(),
            what: "the step wanted more processes".to_owned(),
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(write(self.directory.join("cgroup.kill"), "1"));
        for path in [self.directory.join("step"), self.directory.clone()] {
            // What was killed leaves a moment later.
            for pause in [1, 4, 16, 64, 256] {
                match fs::remove_dir(&path) {
                    Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(pause));
                    }
                    _ => break,
                }
            }
        }
    }
}
