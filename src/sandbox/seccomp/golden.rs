//! What the filters answer to every call, by interpreting them: compared with what is written down in
//! `tests/sandbox_view/syscalls.ARCH`, also for machines that are not at hand. The table of x86_64 was
//! measured inside of a RUN, which shows that the interpreter is right; that of aarch64 is written anew
//! with `RBUILD_BLESS=1`. New numbers get their names in it by hand (asm-generic/unistd.h).

use std::collections::BTreeMap;

use seccompiler::BpfProgram;

use super::{CHROOT, Error, NAMES, words};
use crate::sandbox::emulation::calls::{self, Machine};
use crate::sandbox::emulation::program_of;
use crate::sandbox::interpreter::{Call, judge};

const X86_64: &str = include_str!("../../../tests/sandbox_view/syscalls.x86_64");
const AARCH64: &str = include_str!("../../../tests/sandbox_view/syscalls.aarch64");

/// linux/audit.h, and the first number of the x32 calls.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const X32: u32 = 0x4000_0000;

/// The highest number in the tables.
const LAST: u32 = 600;

/// The programs of the rungs in the order of the columns: mapped, recorded, chroot.
type Rungs = [Vec<Vec<u64>>; 3];

fn rungs(compile: fn(&'static str) -> Result<BpfProgram, Error>, machine: &Machine) -> Rungs {
    let program = |name: &&'static str| words(&compile(name).unwrap());
    let in_chroot: Vec<_> = NAMES.iter().map(program).collect();
    let names = NAMES.iter().filter(|name| **name != CHROOT);
    let mapped: Vec<_> = names.map(program).collect();
    let recorded = [mapped.clone(), vec![program_of(machine, false)]].concat();
    [mapped, recorded, in_chroot]
}

fn answers(rungs: &Rungs, call: &Call) -> [&'static str; 3] {
    [0, 1, 2].map(|rung| match judge(&rungs[rung], call) {
        0x7fff_0000 => "passed",
        0x7fc0_0000 => "answered",
        0x0005_0001 => "EPERM",
        0x0005_0026 => "ENOSYS",
        0x8000_0000 => "killed",
        other => panic!("verdict {other:#x}"),
    })
}

/// A line of a table: calls of one kind with these numbers or with these values of an argument.
struct Row<'a> {
    kind: &'a str,
    from: u64,
    to: u64,
    answers: [&'a str; 3],
    name: Option<&'a str>,
}

fn rows(table: &str) -> impl Iterator<Item = Row<'_>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let (from, to) = fields[1].split_once('-').unwrap_or((fields[1], fields[1]));
        Row {
            kind: fields[0],
            from: value(from),
            to: value(to),
            answers: [fields[2], fields[3], fields[4]],
            name: fields.get(5).copied(),
        }
    })
}

fn value(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap()
}

fn small(value: u64) -> u32 {
    value.try_into().unwrap()
}

/// The numbers of a table by kind and name.
fn numbers(table: &str) -> BTreeMap<(&str, &str), u32> {
    let rows = rows(table).filter_map(|row| Some(((row.kind, row.name?), small(row.from))));
    rows.collect()
}

/// Of a kind of programs the architecture, the bits in every number, and the widest argument.
fn abi(kind: &str) -> (u32, u32, u64) {
    match kind {
        "aarch64" => (AUDIT_ARCH_AARCH64, 0, u64::MAX),
        "x86_64" => (AUDIT_ARCH_X86_64, 0, u64::MAX),
        "x32" => (AUDIT_ARCH_X86_64, X32, u64::MAX),
        "i386" => (AUDIT_ARCH_I386, 0, u32::MAX.into()),
        other => panic!("{other:?}"),
    }
}

/// The call that a line `KIND VALUE` is about, as `tests/sandbox_view/filters.c` makes it; `native` is
/// the kind of the machine's own calls, `numbers` those of its table.
fn call(native: &str, numbers: &BTreeMap<(&str, &str), u32>, kind: &str, value: u64) -> Call {
    if [native, "x32", "i386"].contains(&kind) {
        let (arch, bits, widest) = abi(kind);
        return Call {
            arch,
            number: bits | small(value),
            arguments: [widest; 6],
        };
    }
    let (kind, high) = match kind.split_once("+2^") {
        Some((kind, bit)) => (kind, 1 << bit.parse::<u32>().unwrap()),
        None => (kind, 0),
    };
    let (programs, name) = kind.split_once(':').unwrap_or((native, kind));
    let (arch, _, widest) = abi(programs);
    let value = value + high;
    let mut arguments = [widest; 6];
    [arguments[0], arguments[1]] = if name == "ioctl" {
        [0, value]
    } else {
        [value, 1]
    };
    Call {
        arch,
        number: numbers[&(programs, name)],
        arguments,
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_interpreter_answers_as_the_kernel_did() {
    let rungs = rungs(super::x86_64, &calls::X86_64);
    let numbers = numbers(X86_64);
    let mut differences = Vec::new();
    for row in rows(X86_64) {
        for value in row.from..=row.to {
            let answers = answers(&rungs, &call("x86_64", &numbers, row.kind, value));
            if answers != row.answers {
                let (kind, measured) = (row.kind, row.answers);
                differences.push(format!("{kind} {value}: {answers:?} {measured:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

const HEADER: &str = "\
# What a RUN's filters answer, on mapped (third column), recorded (fourth) and chroot (fifth).
# passed: the call reaches the kernel; answered: rbuild's supervisor answers it; else an errno.
# Made by src/sandbox/seccomp/golden.rs with RBUILD_BLESS=1: not measured, but interpreted.
";

/// The table of aarch64: every number, and the values of arguments that were measured on x86_64.
fn aarch64() -> String {
    let rungs = rungs(super::aarch64, &calls::AARCH64);
    let numbers = numbers(AARCH64);
    let names: BTreeMap<u64, &str> = rows(AARCH64)
        .filter_map(|row| Some((row.from, row.name?)))
        .collect();
    let arguments = rows(X86_64)
        .filter(|row| !["x86_64", "x32"].contains(&row.kind) && !row.kind.starts_with("i386"))
        .flat_map(|row| (row.from..=row.to).map(move |value| (row.kind, value)));
    let all = (0..=LAST).map(|number| ("aarch64", u64::from(number)));
    let mut lines: Vec<(&str, u64, u64, String)> = Vec::new();
    for (kind, value) in all.chain(arguments) {
        let mut text = answers(&rungs, &call("aarch64", &numbers, kind, value)).join(" ");
        if let Some(name) = names.get(&value).filter(|_| kind == "aarch64") {
            text = format!("{text} {name}");
        }
        match lines.last_mut() {
            Some((last, _, end, same)) if *last == kind && *end + 1 == value && *same == text => {
                *end = value;
            }
            _ => lines.push((kind, value, value, text)),
        }
    }
    let lines = lines.into_iter().map(|(kind, from, to, text)| {
        if from != to {
            format!("{kind} {from}-{to} {text}\n")
        } else if from < 1000 {
            format!("{kind} {from} {text}\n")
        } else {
            format!("{kind} {from:#x} {text}\n")
        }
    });
    HEADER.to_owned() + &lines.collect::<String>()
}

#[test]
fn the_filters_of_aarch64_answer_every_system_call_as_written_down() {
    let table = aarch64();
    if std::env::var_os("RBUILD_BLESS").is_some() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/sandbox_view/syscalls.aarch64"
        );
        return std::fs::write(file, table).unwrap();
    }
    let changed: Vec<&str> = table
        .lines()
        .filter(|line| !AARCH64.lines().any(|other| other == *line))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert_eq!(table.lines().count(), AARCH64.lines().count());
}

/// From this number on all architectures have the same calls.
const COMMON: u64 = 424;

#[test]
fn a_call_has_the_same_answer_on_both_architectures() {
    let mut compared: BTreeMap<(&str, u64), Vec<[&str; 3]>> = BTreeMap::new();
    for (native, table) in [("x86_64", X86_64), ("aarch64", AARCH64)] {
        for row in rows(table) {
            for value in row.from..=row.to {
                let call = match (row.kind == native, row.name) {
                    (true, _) if value >= COMMON => ("", value),
                    (true, Some(name)) => (name, 0),
                    (true, None) => continue,
                    (false, _) if row.kind == "x32" || row.kind.starts_with("i386") => continue,
                    (false, _) => (row.kind, value),
                };
                compared.entry(call).or_default().push(row.answers);
            }
        }
    }
    compared.retain(|_, answers| answers.len() == 2);
    assert!(compared.len() > 600, "{}", compared.len());
    compared.retain(|_, answers| answers[0] != answers[1]);
    assert!(compared.is_empty(), "{compared:#?}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_trapped_call_is_the_same_to_the_supervisor_on_both_architectures() {
    let names: BTreeMap<u32, &str> = numbers(AARCH64)
        .into_iter()
        .map(|((_, name), number)| (number, name))
        .collect();
    let numbers = numbers(X86_64);
    let (_, on_x86_64) = calls::X86_64.native;
    for trap in calls::AARCH64.native.1 {
        let number = small(trap.number.try_into().unwrap());
        let is_common = u64::from(number) >= COMMON;
        let there = match names[&number] {
            _ if is_common => number,
            name => numbers[&("x86_64", name)],
        };
        let other = on_x86_64
            .iter()
            .find(|other| other.number == i64::from(there))
            .unwrap();
        assert_eq!((trap.call, trap.when), (other.call, other.when), "{trap:?}");
    }
}

#[test]
fn aarch64_has_its_calls_under_the_kernels_numbers() {
    let list = include_str!("../../../seccomp/aarch64.json");
    let list: serde_json::Value = serde_json::from_str(list).unwrap();
    let named = rows(AARCH64).filter_map(|row| Some((row.name?, row.answers)));
    let answers: BTreeMap<_, _> = named.collect();
    for filter in NAMES {
        for rule in list[filter]["filter"].as_array().unwrap() {
            let name = rule["syscall"].as_str().unwrap();
            let answers = answers.get(name);
            assert!(answers.is_some(), "{filter} {name}");
            if filter == "deny" && rule.get("args").is_none() {
                // Where io_uring_setup(2) is a way around the supervisor, it says so.
                let is_refused = |answer: &&str| {
                    *answer == "EPERM" || name == "io_uring_setup" && *answer == "ENOSYS"
                };
                assert!(answers.unwrap().iter().all(is_refused), "{name}");
            }
        }
    }
}

#[test]
fn calls_of_another_architecture_kill() {
    // aarch64 and arm, both big-endian as well, x86_64, i386, riscv64, s390x, none.
    let foreign = [
        AUDIT_ARCH_AARCH64,
        0x4000_0028,
        0x8000_00b7,
        0x28,
        AUDIT_ARCH_X86_64,
        AUDIT_ARCH_I386,
        0xc000_00f3,
        0x8000_0016,
        0,
    ];
    let machines = [
        #[cfg(target_arch = "x86_64")]
        (
            rungs(super::x86_64, &calls::X86_64),
            vec![AUDIT_ARCH_X86_64, AUDIT_ARCH_I386],
        ),
        (
            rungs(super::aarch64, &calls::AARCH64),
            vec![AUDIT_ARCH_AARCH64],
        ),
    ];
    for (rungs, own) in machines {
        for arch in foreign.into_iter().filter(|arch| !own.contains(arch)) {
            for number in (0..=LAST).chain([X32, u32::MAX]) {
                let call = Call {
                    arch,
                    number,
                    arguments: [0; 6],
                };
                assert_eq!(answers(&rungs, &call), ["killed"; 3], "{call:x?}");
            }
        }
    }
}
