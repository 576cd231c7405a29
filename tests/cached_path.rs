//! What a build does of which every step is in the cache: as little as possible, counted in system calls.

use std::fs;
use std::process::Command;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

/// System calls of a cached build of 20 steps, those of [`NOISE`] left out, and of one more COPY and RUN.
/// A build may take twice as many before the test fails; whoever makes it take fewer lowers them.
const CALLS: usize = 720;
const CALLS_OF_TWO_STEPS: usize = 50;
/// What depends on the allocator, the linker and how threads meet.
const NOISE: [&str; 9] = [
    "brk",
    "futex",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "sched_yield",
    "restart_syscall",
];

/// The calls of a quiet build of the rig's Dockerfile, one a line, without the process that made them.
fn calls(rig: &Rig) -> Vec<String> {
    calls_with(rig, &[])
}

/// [`calls`] of a build with options.
pub(crate) fn calls_with(rig: &Rig, options: &[&str]) -> Vec<String> {
    let trace = rig.path("trace");
    let context = rig.context();
    let arguments = [&["build", "-q"], options, &[context.to_str().unwrap()]].concat();
    let build = rig.command(arguments);
    let mut command = Command::new("timeout");
    // Of a call that another process's interrupts, the second line says nothing new.
    command
        .args(["-k", "5", "120", "strace", "-f", "-qq", "-s", "200", "-o"])
        .arg(&trace)
        .arg(build.get_program())
        .args(build.get_args())
        .current_dir(build.get_current_dir().unwrap());
    Outcome::of(&mut command).succeeds();
    let text = fs::read_to_string(&trace).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, call)| call.trim_start())
        .filter(|call| call.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter(|call| !NOISE.iter().any(|name| is_call(call, name)))
        .map(str::to_owned)
        .collect()
}

pub(crate) fn is_call(line: &str, name: &str) -> bool {
    line.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with('('))
}

/// As many layers, each linked to the one below.
fn linked(rig: &Rig, steps: usize) {
    let steps = (0..steps).map(|step| format!("COPY --link file /copy{step}\n"));
    rig.dockerfile(&format!("FROM base\n{}", steps.collect::<String>()));
}

/// Half of them RUN, half COPY.
fn dockerfile(rig: &Rig, steps: usize) {
    let mut text = "FROM base\n".to_owned();
    for step in 0..steps / 2 {
        text.push_str(&format!(
            "RUN echo {step} > /made{step}\nCOPY file /copy{step}\n"
        ));
    }
    rig.dockerfile(&text);
}

/// With a file in the context that is not read again: what changed within the clock's grain would be.
fn with_settled_file() -> Rig {
    let rig = Rig::new();
    rig.write("file", "content\n");
    let path = rig.context().join("file");
    Outcome::of(Command::new("touch").args(["-d", "2020-01-01"]).arg(&path)).succeeds();
    std::thread::sleep(std::time::Duration::from_secs(4));
    rig
}

/// The calls of a cached build of so many steps. What strace runs has no subordinate ids, whoever the
/// caller is, so this is the store of a user who has none.
fn of_cached_steps(rig: &Rig, steps: usize) -> Vec<String> {
    dockerfile(rig, steps);
    cached(rig)
}

fn cached(rig: &Rig) -> Vec<String> {
    // The second one writes down that the file of the context is not new any more.
    for _ in 0..2 {
        calls(rig);
    }
    calls(rig)
}

#[track_caller]
fn has(calls: &[String], what: &str, expected: usize, is_it: impl Fn(&str) -> bool) {
    let found: Vec<&String> = calls.iter().filter(|call| is_it(call)).collect();
    assert!(found.len() <= expected, "{what}: {found:#?}");
}

#[test]
fn a_cached_build_makes_few_system_calls() {
    if !host::tool("strace") {
        return;
    }
    let rig = with_settled_file();
    let calls = of_cached_steps(&rig, 20);
    println!("{} calls", calls.len());
    assert!(calls.len() < 2 * CALLS, "{} calls", calls.len());
    let is = |call: &str, names: &[&str]| names.iter().any(|name| is_call(call, name));
    has(&calls, "namespaces", 0, |call| {
        is(call, &["unshare", "setns"])
    });
    has(&calls, "processes and threads", 0, |call| {
        is(call, &["clone", "clone3", "fork", "vfork"])
    });
    has(&calls, "certificates", 0, |call| {
        call.contains("/etc/ssl") || call.contains("/etc/pki") || call.contains("ca-certificates")
    });
    has(&calls, "filters", 0, |call| {
        is(call, &["seccomp"]) || call.contains("PR_SET_SECCOMP")
    });
    has(&calls, "sockets of the network", 0, |call| {
        is(call, &["socket"]) && call.contains("AF_INET")
    });
    has(&calls, "mounts", 0, |call| {
        is(call, &["fsmount", "fsopen", "move_mount"])
    });
    has(&calls, "the file of the context, opened", 0, |call| {
        is(call, &["openat", "openat2", "open"]) && call.contains("\"file\"")
    });
}

/// A step must not look at all that is below it.
#[test]
fn what_a_cached_step_costs_does_not_depend_on_its_place() {
    if !host::tool("strace") {
        return;
    }
    let rig = with_settled_file();
    let [few, more, many] = [4, 24, 44].map(|steps| of_cached_steps(&rig, steps).len());
    let (first, last) = (more - few, many - more);
    println!("{first} and {last} calls of twenty steps");
    assert!(last <= first + first / 10, "{first} and then {last} calls");
    let [few, more, many] = [4, 24, 44].map(|steps| {
        linked(&rig, steps);
        cached(&rig).len()
    });
    let (linked, next) = (more - few, many - more);
    assert!(
        next <= linked + linked / 10,
        "{linked} and then {next} calls"
    );
    assert!(
        last < 2 * 10 * CALLS_OF_TWO_STEPS,
        "{last} calls of twenty steps"
    );
}
