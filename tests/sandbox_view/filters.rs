//! What the filters answer on x86_64, where it can be measured. `src/sandbox/seccomp/golden.rs` says it of
//! aarch64.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::{Rung, assert_lines, expected, is_blessing, rig};
use crate::rig::host;

#[test]
fn the_filters_answer_every_system_call_as_written_down() {
    if !cfg!(target_arch = "x86_64") {
        return host::skip("the numbers are those of x86_64");
    }
    let Some(rig) = rig("filters") else { return };
    let dockerfile = "FROM base\nCOPY filters /filters\nRUN /filters > /seen";
    let tables: BTreeMap<&str, Vec<(String, u64, String)>> = Rung::reached()
        .map(|rung| {
            (
                rung.name(),
                table(&rung.image(&rig, dockerfile, &[]).text("seen")),
            )
        })
        .collect();
    let file = expected("syscalls.x86_64");
    if is_blessing() {
        let text = written(Rung::ALL.map(|rung| &tables[rung.name()][..]));
        return fs::write(file, text).unwrap();
    }
    let text = fs::read_to_string(file).unwrap();
    for (rung, table) in tables {
        let lines: String = table
            .iter()
            .map(|(call, number, answer)| format!("{call} {number} {answer}\n"))
            .collect();
        assert_lines(rung, &lines, &read(&text, rung));
    }
}

#[test]
fn without_filters_the_same_program_finds_nothing_refused() {
    if !cfg!(target_arch = "x86_64") || !host::maps_many_ids() {
        return;
    }
    let Some(rig) = rig("filters") else { return };
    let image = Rung::Mapped.image(
        &rig,
        "FROM base\nCOPY filters /filters\nRUN --security=insecure /filters > /seen",
        &["--allow", "security.insecure"],
    );
    let own = fs::read_to_string("/proc/self/status").unwrap();
    if !own.contains("Seccomp:\t0") {
        return host::skip("this test is in a sandbox itself");
    }
    let seen = image.text("seen");
    let refused: Vec<&str> = seen
        .lines()
        .filter(|line| !line.ends_with(" passed"))
        .collect();
    assert_eq!(refused, [""; 0]);
}

/// The lines of `filters`: call, number, answer.
fn table(seen: &str) -> Vec<(String, u64, String)> {
    let rows = seen.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [call, number, answer] = fields[..] else {
            panic!("{line:?}");
        };
        (call.to_owned(), value(number), answer.to_owned())
    });
    rows.collect()
}

fn value(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap()
}

const HEADER: &str = "\
# What a RUN's filters answer, on mapped (third column), recorded (fourth) and chroot (fifth).
# passed: the call reaches the kernel; answered: rbuild's supervisor answers it; else an errno.
# Made by tests/sandbox_view.rs with RBUILD_BLESS=1, on Linux/x86_64.
";

fn written([mapped, recorded, chroot]: [&[(String, u64, String)]; 3]) -> String {
    let names = names();
    let mut lines: Vec<(String, u64, u64, String)> = Vec::new();
    for (row, (call, number, answer)) in mapped.iter().enumerate() {
        let name = names.get(&(call.clone(), *number));
        let answers = format!("{answer} {} {}", recorded[row].2, chroot[row].2);
        let answers = match name {
            Some(name) => format!("{answers} {name}"),
            None => answers,
        };
        match lines.last_mut() {
            Some((last, _, end, same))
                if last == call && *end + 1 == *number && *same == answers =>
            {
                *end = *number;
            }
            _ => lines.push((call.clone(), *number, *number, answers)),
        }
    }
    let lines = lines.into_iter().map(|(call, from, to, answers)| {
        if from != to {
            format!("{call} {from}-{to} {answers}\n")
        } else if from < 1000 {
            format!("{call} {from} {answers}\n")
        } else {
            format!("{call} {from:#x} {answers}\n")
        }
    });
    HEADER.to_owned() + &lines.collect::<String>()
}

/// What `rung` has in the file that [`written`] made, a line for each number.
fn read(text: &str, rung: &str) -> String {
    let mut lines = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let (from, to) = fields[1].split_once('-').unwrap_or((fields[1], fields[1]));
        let column = Rung::ALL.iter().position(|each| each.name() == rung);
        let answer = fields[2 + column.unwrap()];
        for number in value(from)..=value(to) {
            lines += &format!("{} {number} {answer}\n", fields[0]);
        }
    }
    lines
}

/// The names of system calls by the kernel's headers.
fn names() -> BTreeMap<(String, u64), String> {
    let mut names = BTreeMap::new();
    for (abi, header) in [("x86_64", "asm/unistd_64.h"), ("i386", "asm/unistd_32.h")] {
        let mut cc = Command::new("cc");
        let defined =
            host::stdout_of(cc.args(["-E", "-dM", "-include", header, "-x", "c", "/dev/null"]));
        for line in String::from_utf8(defined).unwrap().lines() {
            let Some(definition) = line.strip_prefix("#define __NR_") else {
                continue;
            };
            if let Some((name, number)) = definition.split_once(' ')
                && let Ok(number) = number.parse()
            {
                names.insert((abi.to_owned(), number), name.to_owned());
            }
        }
    }
    names
}
