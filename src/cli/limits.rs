//! `--limits`, `--profile` and `--refuse-private-addresses`: what a command may take of the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Exit;
use super::config::Config;
use super::report::{self, Report};
use crate::build::limits::Limits;
use crate::build::request::Network;
use crate::build::secret_scan::SecretScan;
use crate::dockerfile::parse_size;
use crate::sandbox::{Cancel, Exceeded, Walls, cgroup};
use crate::{layer, reach};

#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// What a step or the whole may take, KEY=VALUE,…: step-seconds, build-seconds, parallel-steps, cpus,
    /// processes, open-files, file-size, memory, written-bytes, written-files, log-bytes, unpack-bytes,
    /// unpack-files; none lifts a limit of the profile; repeatable
    #[arg(long = "limits", value_name = "KEY=VALUE", value_parser = change, value_delimiter = ',')]
    limits: Vec<Change>,
    /// The limits to begin with: none, or multi-tenant for builds of strangers [default: what
    /// config.json says, or none]
    #[arg(long, value_name = "PROFILE", value_enum)]
    profile: Option<Profile>,
    /// Fetch nothing from this machine and private networks
    #[arg(long)]
    refuse_private_addresses: bool,
}

/// A set of limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Profile {
    #[default]
    None,
    MultiTenant,
}

/// One `KEY=VALUE`; the value of `none` is none.
#[derive(Debug, Clone)]
pub(super) struct Change {
    key: &'static Key,
    value: Option<u64>,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    /// Whole ones and parts, in thousandths.
    Cpus,
}

/// A limit as one types it.
struct Key {
    name: &'static str,
    unit: Unit,
    /// Below this nothing could run.
    least: u64,
    /// The value of [`Profile::MultiTenant`].
    strict: Option<u64>,
    field: fn(&mut Limits) -> &mut Option<u64>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn key(
    name: &'static str,
    unit: Unit,
    least: u64,
    strict: u64,
    field: fn(&mut Limits) -> &mut Option<u64>,
) -> Key {
    Key {
        name,
        unit,
        least,
        strict: Some(strict),
        field,
    }
}

/// `memory` of the strict set is what programs need that reserve addresses they do not use, such as
/// node, because it bounds the addresses of each process as well.
static KEYS: [Key; 13] = [
    key("step-seconds", Unit::Count, 1, 3600, |limits| {
        &mut limits.step_seconds
    }),
    key("build-seconds", Unit::Count, 1, 7200, |limits| {
        &mut limits.build_seconds
    }),
    key("parallel-steps", Unit::Count, 1, 4, |limits| {
        &mut limits.parallel_steps
    }),
    // Few hosts can keep it, and the strict set is for all.
    Key {
        name: "cpus",
        unit: Unit::Cpus,
        least: 10,
        strict: None,
        field: |limits| &mut limits.cpus,
    },
    key("processes", Unit::Count, 1, 4096, |limits| {
        &mut limits.processes
    }),
    key("open-files", Unit::Count, 16, 65_536, |limits| {
        &mut limits.open_files
    }),
    key("file-size", Unit::Bytes, 1, 8 << 30, |limits| {
        &mut limits.file_size
    }),
    key("memory", Unit::Bytes, 64 << 20, 16 << 30, |limits| {
        &mut limits.memory
    }),
    key("written-bytes", Unit::Bytes, 1, 20 << 30, |limits| {
        &mut limits.written_bytes
    }),
    key("written-files", Unit::Count, 1, 1_000_000, |limits| {
        &mut limits.written_files
    }),
    key("log-bytes", Unit::Bytes, 1, 2 << 20, |limits| {
        &mut limits.log_bytes
    }),
    key("unpack-bytes", Unit::Bytes, 1, 20 << 30, |limits| {
        &mut limits.unpack_bytes
    }),
    key("unpack-files", Unit::Count, 1, 1_000_000, |limits| {
        &mut limits.unpack_files
    }),
];

/// Parses one `KEY=VALUE`.
fn change(text: &str) -> Result<Change, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE (as in step-seconds=600)"))?;
    change_of(name, value)
}

/// What `name` and `value` ask for.
pub(super) fn change_of(name: &str, value: &str) -> Result<Change, String> {
    let key = KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
        let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        format!("the limit {name:?} is not known ({})", names.join(", "))
    })?;
    if value == "none" {
        return Ok(Change { key, value: None });
    }
    let (number, example) = match key.unit {
        Unit::Count => (value.parse().ok(), "600"),
        Unit::Bytes => (parse_size(value), "512m"),
        Unit::Cpus => (parse_cpus(value), "1.5"),
    };
    let number = number.ok_or_else(|| {
        format!("the limit {name}={value} has no number (as in {example}, or none)")
    })?;
    if number < key.least {
        let least = match key.unit {
            Unit::Count => key.least.to_string(),
            Unit::Bytes => crate::sandbox::size(key.least),
            Unit::Cpus => "0.01".to_owned(),
        };
        return Err(format!(
            "the limit {name}={value} is below {least}, the least that works"
        ));
    }
    Ok(Change {
        key,
        value: Some(number),
    })
}

/// `1.5` as 1500.
fn parse_cpus(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{part:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(thousandths)
}

/// What is in force for one command.
#[derive(Debug, Clone, Default)]
pub(super) struct Chosen {
    pub(super) limits: Limits,
    /// The network of RUN where the command line names none.
    pub(super) network: Network,
    /// What is done about secrets where the command line does not say.
    pub(super) secret_scan: SecretScan,
    refuse_private: bool,
}

impl Chosen {
    /// What the configuration file and then the command line say.
    pub(super) fn new(arguments: &LimitArgs, config: &Config) -> Self {
        let profile = arguments.profile.unwrap_or(config.profile);
        let mut limits = Limits::default();
        if profile == Profile::MultiTenant {
            for key in &KEYS {
                *(key.field)(&mut limits) = key.strict;
            }
        }
        for Change { key, value } in config.limits.iter().chain(&arguments.limits) {
            *(key.field)(&mut limits) = *value;
        }
        let (network, secret_scan) = match profile {
            Profile::None => (Network::Default, SecretScan::Off),
            Profile::MultiTenant => (Network::Isolated, SecretScan::Fail),
        };
        Self {
            limits,
            network: config.network.unwrap_or(network),
            secret_scan: config.secret_scan.unwrap_or(secret_scan),
            refuse_private: profile == Profile::MultiTenant
                || config.refuse_private_addresses
                || arguments.refuse_private_addresses,
        }
    }

    /// Of a command without these options.
    pub(super) fn of_config(config: &Config) -> Self {
        let none = LimitArgs {
            limits: Vec::new(),
            profile: None,
            refuse_private_addresses: false,
        };
        Self::new(&none, config)
    }

    /// Puts in force what holds for the whole process.
    pub(super) fn enforce(&self) {
        layer::restrict(self.limits.of_archives());
        if self.refuse_private {
            reach::refuse_private();
        }
    }

    /// Which limit cannot be kept within `walls`: without namespaces nobody can tell which processes are
    /// the step's, and the kernel exempts root of the host from its own count.
    pub(super) fn unkept(&self, walls: &Walls) -> Option<&'static str> {
        (*walls == Walls::Chroot && self.limits.processes.is_some()).then_some("processes")
    }

    /// Takes hold of what keeps the limits until the claim is dropped; says itself which one cannot be
    /// kept. Must be called while this process is the only one it has.
    pub(super) fn require(&self, walls: &Walls) -> Result<Option<cgroup::Claim>, Exit> {
        let (title, help) = if let Some(name) = self.unkept(walls) {
            (
                format!("the limit {name} cannot be kept in a chroot"),
                format!(
                    "--limits {name}=none builds without it; rbuild doctor says what namespaces need"
                ),
            )
        } else {
            match cgroup::claim(&self.limits.of_sandbox(Vec::new())) {
                Ok(claim) => return Ok(claim),
                Err(_) if self.limits.cpus.is_none() => return Ok(None),
                Err(lack) => (
                    format!("the limit cpus needs a cgroup v2 of rbuild's own: {lack}"),
                    "systemd-run --user --scope -p Delegate=yes rbuild … starts it in one; \
                     --limits cpus=none builds without it"
                        .to_owned(),
                ),
            }
        };
        report::print(&Report {
            title,
            help: Some(help),
            ..Report::default()
        });
        Err(Exit::Host)
    }

    /// A warning where a limit is weaker than its name says.
    pub(super) fn warning(&self) -> Option<String> {
        let memory = self.limits.memory.filter(|_| !cgroup::counts_memory())?;
        Some(format!(
            "memory={} is per process (its addresses), and of a step as a whole as far as it is seen \
             every 100 ms",
            crate::sandbox::size(memory)
        ))
    }
}

/// What to do about a limit that ended something.
pub(super) fn advice(name: &str) -> String {
    format!(
        "--limits {name}=VALUE raises it and {name}=none lifts it, as does \"limits\" in \
         ~/.config/rbuild/config.json"
    )
}

/// Cancels a command when its time is over.
pub(super) struct Deadline {
    seconds: u64,
    passed: Arc<AtomicBool>,
    _running: Sender<()>,
}

impl Deadline {
    /// Begins now; `None` without a limit.
    pub(super) fn start(limits: &Limits, cancel: &Cancel) -> std::io::Result<Option<Self>> {
        let Some(seconds) = limits.build_seconds else {
            return Ok(None);
        };
        let passed = Arc::new(AtomicBool::new(false));
        let (running, ended) = mpsc::channel();
        let (cancel, tell) = (cancel.clone(), Arc::clone(&passed));
        std::thread::Builder::new()
            .name("deadline".to_owned())
            .spawn(move || {
                let waited = ended.recv_timeout(Duration::from_secs(seconds));
                if waited == Err(RecvTimeoutError::Timeout) {
                    tell.store(true, Ordering::SeqCst);
                    cancel.cancel();
                }
            })?;
        Ok(Some(Self {
            seconds,
            passed,
            _running: running,
        }))
    }

    /// Says that the time is over, if it is.
    pub(super) fn report(&self) -> bool {
        let is_over = self.passed.load(Ordering::SeqCst);
        if is_over {
            let exceeded = Exceeded {
                name: "build-seconds",
                value: self.seconds.to_string(),
                what: "the build took longer".to_owned(),
            };
            report::print(&Report {
                title: exceeded.to_string(),
                help: Some(advice(exceeded.name)),
                code: Some("Build"),
                ..Report::default()
            });
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(texts: &[&str], profile: Option<Profile>) -> LimitArgs {
        LimitArgs {
            limits: texts.iter().map(|text| change(text).unwrap()).collect(),
            profile,
            refuse_private_addresses: false,
        }
    }

    #[test]
    fn limits_are_numbers_with_a_known_name() {
        for (text, value) in [
            ("step-seconds=10", Some(10)),
            ("memory=1g", Some(1 << 30)),
            ("file-size=1024", Some(1024)),
            ("processes=none", None),
            ("cpus=2", Some(2000)),
            ("cpus=0.5", Some(500)),
            ("cpus=1.025", Some(1025)),
        ] {
            assert_eq!(change(text).unwrap().value, value, "{text}");
        }
        for wrong in [
            "step-seconds",
            "step-seconds=",
            "step-seconds=1m",
            "step-seconds=0",
            "memory=1",
            "memory=much",
            "cpu=2",
            "cpus=0",
            "cpus=0.001",
            "cpus=.5",
            "cpus=+1",
            "cpus=1.0001",
            "cpus=1e3",
            "",
        ] {
            assert!(change(wrong).is_err(), "{wrong}");
        }
        assert!(change("steps=1").unwrap_err().contains("step-seconds"));
    }

    #[test]
    fn in_a_chroot_processes_cannot_be_counted() {
        let config = Config::default();
        for (limits, walls, unkept) in [
            ("processes=9", Walls::Chroot, Some("processes")),
            ("processes=9", Walls::Namespaces(None), None),
            ("step-seconds=9", Walls::Chroot, None),
        ] {
            let chosen = Chosen::new(&arguments(&[limits], None), &config);
            assert_eq!(chosen.unkept(&walls), unkept, "{limits}");
        }
    }

    #[test]
    fn the_command_line_beats_the_file_which_beats_the_profile() {
        let config = Config {
            profile: Profile::MultiTenant,
            limits: vec![
                change("memory=2g").unwrap(),
                change("processes=10").unwrap(),
            ],
            refuse_private_addresses: false,
            network: None,
            secret_scan: None,
        };
        let chosen = Chosen::new(
            &arguments(&["processes=20", "file-size=none"], None),
            &config,
        );
        assert!(chosen.refuse_private);
        assert_eq!(chosen.network, Network::Isolated);
        assert_eq!(chosen.limits.memory, Some(2 << 30));
        assert_eq!(chosen.limits.processes, Some(20));
        assert_eq!(chosen.limits.file_size, None);
        assert_eq!(chosen.limits.step_seconds, Some(3600));
        let chosen = Chosen::new(&arguments(&[], Some(Profile::None)), &config);
        assert!(!chosen.refuse_private);
        assert_eq!(chosen.network, Network::Default);
        assert_eq!(chosen.limits.step_seconds, None);
        assert_eq!(chosen.limits.memory, Some(2 << 30));
    }
}
