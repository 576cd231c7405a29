//! Limits that the kernel keeps for a sandbox as a whole, where rbuild's own cgroup v2 is delegated to
//! its user (cgroups(7)).
//!
//! The kernel turns controllers on only below a cgroup that has no process itself. So rbuild moves from
//! its cgroup into `rbuild-PID` below it, and each sandbox gets `rbuild-PID-N/step`: the limits are in
//! the upper directory, out of sight of a command that mounts what its cgroup namespace shows.

mod group;
mod place;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::AccessFlags;

pub(super) use group::Group;

use super::watch::Bounds;

/// Why there is no cgroup to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lack {
    #[error("this process has no cgroup v2")]
    Hierarchy,
    #[error("its cgroup v2 is not mounted")]
    Mount,
    #[error("its cgroup {} is not delegated to this user", .0.display())]
    Delegated(PathBuf),
    #[error("its cgroup {} is threaded", .0.display())]
    Threaded(PathBuf),
    #[error("its cgroup {} has other processes too", .0.display())]
    Shared(PathBuf),
    #[error("its cgroup {} has no controller {name}", .directory.display())]
    Controller {
        directory: PathBuf,
        name: &'static str,
    },
    #[error("its cgroup cannot be used: {0}")]
    Change(Error),
}

/// A change of the hierarchy that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", .path.display())]
pub(crate) struct Error {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn write(path: PathBuf, text: &str) -> Result<(), Error> {
    fs::write(&path, text).map_err(|source| Error {
        operation: "write to",
        path,
        source,
    })
}

fn make(path: PathBuf) -> Result<PathBuf, Error> {
    match fs::create_dir(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(Error {
            operation: "make the cgroup",
            path,
            source,
        }),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    /// Those that keep `bounds`.
    fn of(bounds: &Bounds) -> Vec<Self> {
        let wanted = [
            (Self::Cpu, bounds.cpus),
            (Self::Memory, bounds.memory),
            (Self::Pids, bounds.processes),
        ];
        let wanted = wanted.into_iter().filter(|(_, limit)| limit.is_some());
        wanted.map(|(controller, _)| controller).collect()
    }
}

/// This process's own cgroup, which its user may divide.
#[derive(Debug)]
pub(in crate::sandbox) struct Delegation {
    directory: PathBuf,
    /// What cgroup.controllers says.
    controllers: String,
}

impl Delegation {
    /// Changes nothing.
    pub(in crate::sandbox) fn find() -> Result<Self, Lack> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (cgroups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        Self::of(&cgroups, &mounts, std::process::id())
    }

    fn of(cgroups: &str, mounts: &str, pid: u32) -> Result<Self, Lack> {
        let own = place::own(cgroups).ok_or(Lack::Hierarchy)?;
        let directory = place::directories(own, mounts)
            .into_iter()
            .find(|directory| directory.join("cgroup.procs").exists())
            .ok_or(Lack::Mount)?;
        let may_write =
            |name: &str| nix::unistd::access(&directory.join(name), AccessFlags::W_OK).is_ok();
        if !["", "cgroup.procs", "cgroup.subtree_control"]
            .into_iter()
            .all(may_write)
        {
            return Err(Lack::Delegated(directory));
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        if !is_root(&directory) {
            if read("cgroup.type").trim() != "domain" {
                return Err(Lack::Threaded(directory));
            }
            if read("cgroup.procs")
                .lines()
                .any(|other| other != pid.to_string())
            {
                return Err(Lack::Shared(directory));
            }
        }
        let controllers = read("cgroup.controllers").trim().to_owned();
        Ok(Self {
            directory,
            controllers,
        })
    }

    /// What it has of what limits need, as `cpu memory pids`.
    pub(in crate::sandbox) fn describe(&self) -> Result<String, Lack> {
        let all = [Controller::Cpu, Controller::Memory, Controller::Pids];
        let names: Vec<&str> = all
            .into_iter()
            .filter(|controller| self.has(*controller))
            .map(Controller::name)
            .collect();
        if names.is_empty() {
            return Err(self.without(Controller::Cpu));
        }
        Ok(names.join(" "))
    }

    fn has(&self, controller: Controller) -> bool {
        self.controllers
            .split_whitespace()
            .any(|name| name == controller.name())
    }

    fn without(&self, controller: Controller) -> Lack {
        Lack::Controller {
            directory: self.directory.clone(),
            name: controller.name(),
        }
    }

    /// Moves this process, whose id is `pid`, out of the way and turns on what `bounds` needs. Without
    /// the controller cpu `cpus` cannot be kept at all; the others are left out where they are missing.
    fn divide(self, bounds: &Bounds, pid: u32) -> Result<Home, Lack> {
        let mut controllers = Controller::of(bounds);
        let missing = controllers.iter().copied().find(|one| !self.has(*one));
        controllers.retain(|controller| self.has(*controller));
        if let Some(missing) = missing
            && (missing == Controller::Cpu || controllers.is_empty())
        {
            return Err(self.without(missing));
        }
        sweep(&self.directory, pid);
        let switch = self.directory.join("cgroup.subtree_control");
        let before = fs::read_to_string(&switch).unwrap_or_default();
        let is_on = |controller: &Controller| {
            before
                .split_whitespace()
                .any(|name| name == controller.name())
        };
        let mut home = Home {
            switched_on: Vec::new(),
            leaf: None,
            pid,
            directory: self.directory,
            next: AtomicU64::new(0),
            controllers,
        };
        // A home that is dropped puts everything back.
        if !is_root(&home.directory) {
            let leaf = make(home.directory.join(format!("rbuild-{pid}"))).map_err(Lack::Change)?;
            let leaf = home.leaf.insert(leaf);
            write(leaf.join("cgroup.procs"), &pid.to_string()).map_err(Lack::Change)?;
        }
        for controller in home.controllers.clone() {
            if !is_on(&controller) {
                let change = format!("+{}", controller.name());
                write(switch.clone(), &change).map_err(Lack::Change)?;
                home.switched_on.push(controller);
            }
        }
        Ok(home)
    }
}

/// Only the root of the hierarchy may have both processes and controllers turned on below it, and only
/// it has no type.
fn is_root(directory: &Path) -> bool {
    !directory.join("cgroup.type").exists()
}

/// Removes what processes of rbuild that were killed have left; `own` has made nothing yet.
fn sweep(directory: &Path, own: u32) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let pid = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("rbuild-")?.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        let is_gone = |pid| pid == own || !Path::new(&format!("/proc/{pid}")).exists();
        if pid.is_some_and(is_gone) {
            // One that has processes stays.
            drop(fs::remove_dir(path.join("step")));
            drop(fs::remove_dir(path));
        }
    }
}

/// A delegated cgroup that is divided: this process is in a leaf, and groups can be made.
#[derive(Debug)]
struct Home {
    directory: PathBuf,
    leaf: Option<PathBuf>,
    pid: u32,
    controllers: Vec<Controller>,
    switched_on: Vec<Controller>,
    next: AtomicU64,
}

impl Home {
    fn group(&self, bounds: &Bounds) -> Result<Group, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("rbuild-{}-{number}", self.pid);
        Group::make(self.directory.join(name), &self.controllers, bounds)
    }
}

impl Drop for Home {
    /// As it was: nobody could start another process in a cgroup whose controllers are turned on.
    fn drop(&mut self) {
        for controller in &self.switched_on {
            let change = format!("-{}", controller.name());
            drop(write(
                self.directory.join("cgroup.subtree_control"),
                &change,
            ));
        }
        if let Some(leaf) = &self.leaf {
            let procs = self.directory.join("cgroup.procs");
            drop(write(procs, &self.pid.to_string()));
            drop(fs::remove_dir(leaf));
        }
    }
}

static HOME: Mutex<Option<Arc<Home>>> = Mutex::new(None);

fn home() -> Option<Arc<Home>> {
    let home = HOME.lock().unwrap_or_else(PoisonError::into_inner);
    home.clone()
}

/// Every sandbox gets a cgroup until this is dropped; then the process is where it was.
#[derive(Debug)]
pub(crate) struct Claim(());

impl Drop for Claim {
    fn drop(&mut self) {
        let mut home = HOME.lock().unwrap_or_else(PoisonError::into_inner);
        drop(home.take());
    }
}

/// Divides this process's cgroup for sandboxes that are held to `bounds`; `None` when they need none.
/// Must be called before this process starts others. Without `cpus`, a lack only means that the limits
/// are kept by what [`super::watch`] sees.
pub(crate) fn claim(bounds: &Bounds) -> Result<Option<Claim>, Lack> {
    if Controller::of(bounds).is_empty() {
        return Ok(None);
    }
    let divided = Delegation::find()?.divide(bounds, std::process::id())?;
    *HOME.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(divided));
    Ok(Some(Claim(())))
}

/// Whether there is a [`Claim`].
pub(super) fn is_claimed() -> bool {
    home().is_some()
}

/// Whether the memory of a sandbox is counted by the kernel.
pub(crate) fn counts_memory() -> bool {
    home().is_some_and(|home| home.controllers.contains(&Controller::Memory))
}

/// The cgroup for one sandbox, while there is a [`Claim`].
pub(super) fn group(bounds: &Bounds) -> Result<Option<Group>, Error> {
    home().map(|home| home.group(bounds)).transpose()
}

#[cfg(test)]
mod tests;
