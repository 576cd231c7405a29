//! What a step costs on few and on many layers, counted in system calls.

use crate::cached_path::{calls_with, is_call};
use crate::rig::{Rig, host};

/// The calls of a build of so many steps, all carried out, that name a snapshot. The kernel is told of each
/// layer below a mount, which is one `fsconfig`.
fn calls(rig: &Rig, step: &str, steps: usize) -> usize {
    let steps = (0..steps).map(|number| step.replace('%', &number.to_string()));
    rig.dockerfile(&format!("FROM base\n{}", steps.collect::<String>()));
    let calls = calls_with(rig, &["--no-cache"]);
    calls
        .iter()
        .filter(|call| call.contains("/snapshots/") && !is_call(call, "fsconfig"))
        .count()
}

#[test]
fn what_a_step_costs_does_not_depend_on_how_many_layers_are_below_it() {
    if !host::tool("strace") {
        return;
    }
    let rig = Rig::new();
    rig.write("file", "content\n");
    let kinds = [
        ("a new directory", "WORKDIR /new%\n"),
        ("a new directory in one", "WORKDIR /in/new%\n"),
        ("a file", "COPY file /file%\n"),
        ("a command", "RUN echo % > /file\n"),
    ];
    for (kind, step) in kinds {
        let [few, more, many] = [2, 22, 42].map(|steps| calls(&rig, step, steps));
        let (first, last) = (more - few, many - more);
        println!("{kind}: {first} and {last} calls of twenty steps");
        assert!(
            last <= first + first / 10,
            "{kind}: {first} and then {last} calls"
        );
    }
}
