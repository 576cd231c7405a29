//! The system calls that a RUN may make: `seccomp/*.json` compiled to BPF.

use std::sync::OnceLock;

use seccompiler::{BpfProgram, TargetArch, compile_from_json};

#[cfg(test)]
mod golden;
#[cfg(any(test, target_arch = "x86_64"))]
mod i386;

#[cfg(target_arch = "aarch64")]
use aarch64 as compile;
#[cfg(target_arch = "x86_64")]
use x86_64 as compile;

/// The filters of a list, in the order of installation: of two that refuse, the later gives the errno.
const NAMES: [&str; 3] = ["allow", "deny", CHROOT];

/// What a command must not do that sees processes outside of its root: the memory of one, which it could
/// make its own by becoming that one's user, is a way out.
const CHROOT: &str = "chroot";

/// A filter list that does not compile; the unit tests rule it out for the lists in the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot compile the seccomp filter {name}: {message}")]
pub(crate) struct Error {
    name: &'static str,
    message: String,
}

impl Error {
    fn new(name: &'static str, message: String) -> Self {
        Self { name, message }
    }
}

/// The programs in the order of installation, in the words that
/// [`crate::sys::process::install_filter`] takes, for a command in namespaces or `in_chroot`. Compiled
/// once per process.
pub(crate) fn filters(in_chroot: bool) -> Result<Vec<Vec<u64>>, Error> {
    static FILTERS: OnceLock<Result<Vec<Vec<u64>>, Error>> = OnceLock::new();
    let all = FILTERS
        .get_or_init(|| {
            let programs = NAMES.iter().map(|name| Ok(words(&compile(name)?)));
            programs.collect()
        })
        .as_ref()
        .map_err(Clone::clone)?;
    let programs = NAMES.iter().zip(all);
    Ok(programs
        .filter(|(name, _)| in_chroot || **name != CHROOT)
        .map(|(_, program)| program.clone())
        .collect())
}

#[cfg(any(test, target_arch = "x86_64"))]
fn x86_64(name: &'static str) -> Result<BpfProgram, Error> {
    let list = include_str!("../../seccomp/x86_64.json");
    Ok(i386::splice(
        of_list(name, list, TargetArch::x86_64)?,
        i386::compile(name)?,
    ))
}

#[cfg(any(test, target_arch = "aarch64"))]
fn aarch64(name: &'static str) -> Result<BpfProgram, Error> {
    let list = include_str!("../../seccomp/aarch64.json");
    of_list(name, list, TargetArch::aarch64)
}

fn of_list(name: &'static str, list: &str, arch: TargetArch) -> Result<BpfProgram, Error> {
    let mut programs = compile_from_json(list.as_bytes(), arch)
        .map_err(|error| Error::new(name, error.to_string()))?;
    programs
        .remove(name)
        .ok_or_else(|| Error::new(name, "not in the list".to_owned()))
}

fn words(program: &BpfProgram) -> Vec<u64> {
    program
        .iter()
        .map(|instruction| {
            let [c1, c0] = instruction.code.to_be_bytes();
            let [k3, k2, k1, k0] = instruction.k.to_be_bytes();
            u64::from_be_bytes([c1, c0, instruction.jt, instruction.jf, k3, k2, k1, k0])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    const LISTS: [(&str, &str); 3] = [
        ("x86_64", include_str!("../../seccomp/x86_64.json")),
        ("aarch64", include_str!("../../seccomp/aarch64.json")),
        ("i386", include_str!("../../seccomp/i386.json")),
    ];

    fn rules(list: &str, filter: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(list).unwrap();
        list[filter]["filter"].as_array().unwrap().clone()
    }

    #[test]
    fn the_lists_compile_for_their_architecture() {
        for compile in [super::x86_64, super::aarch64] {
            for name in super::NAMES {
                let program = compile(name).unwrap();
                // BPF_MAXINSNS in linux/bpf_common.h.
                assert!(program.len() <= 4096, "{} instructions", program.len());
            }
        }
    }

    #[test]
    fn no_syscall_has_rules_with_and_without_conditions() {
        for (arch, list) in LISTS {
            for filter in super::NAMES {
                let mut conditional: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
                for rule in rules(list, filter) {
                    let name = rule["syscall"].as_str().unwrap().to_owned();
                    let has = rule.get("args").is_some();
                    let before = conditional.entry(name.clone()).or_default();
                    assert!(before.insert(has) || has, "{arch} {filter} {name}: twice");
                }
                for (name, kinds) in conditional {
                    assert_eq!(kinds.len(), 1, "{arch} {filter} {name}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_allowed_and_denied_without_a_condition() {
        for (arch, list) in LISTS {
            let names = |filter| -> BTreeSet<String> {
                rules(list, filter)
                    .iter()
                    .filter(|rule| rule.get("args").is_none())
                    .map(|rule| rule["syscall"].as_str().unwrap().to_owned())
                    .collect()
            };
            let both: Vec<_> = names("allow")
                .intersection(&names("deny"))
                .cloned()
                .collect();
            assert!(both.is_empty(), "{arch}: {both:?}");
        }
    }

    #[test]
    fn ioctl_conditions_look_at_the_request() {
        for (arch, list) in LISTS {
            let requests: Vec<_> = rules(list, "deny")
                .into_iter()
                .filter(|rule| rule["syscall"] == "ioctl")
                .map(|rule| {
                    let condition = &rule["args"][0];
                    (condition["index"].as_u64(), condition["val"].as_u64())
                })
                .collect();
            // TIOCSTI and TIOCLINUX of asm-generic/ioctls.h.
            let expected = [(Some(1), Some(0x5412)), (Some(1), Some(0x541c))];
            assert_eq!(requests, expected, "{arch}");
        }
    }

    #[test]
    fn conditions_compare_what_the_kernel_looks_at() {
        for (arch, list) in LISTS {
            for rule in super::NAMES.iter().flat_map(|name| rules(list, name)) {
                for condition in rule["args"].as_array().into_iter().flatten() {
                    assert_eq!(condition["type"], "dword", "{arch} {rule}");
                }
            }
        }
    }
}
