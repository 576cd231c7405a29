//! `rbuild run` between signals and a terminal.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::rig::terminal::Terminal;
use crate::rig::{Rig, host};

fn kill(signal: &str, pid: u32) {
    host::stdout_of(Command::new("kill").args(["-s", signal, &pid.to_string()]));
}

/// Starts a script that says `ready` first, and waits for that.
fn started(rig: &Rig, script: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let script = format!("{script}; echo ready; while :; do sleep 0.05; done");
    let mut child = rig
        .command(["run", "base", "timeout", "60", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    (child, lines)
}

#[test]
fn signals_reach_the_command() {
    for signal in ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"] {
        let rig = Rig::new();
        let script = format!("trap 'echo got {signal}; exit 5' {signal}");
        let mut child = rig
            .command(["run", "base", "sh", "-c"])
            .arg(format!(
                "{script}; echo ready; i=0; while [ $i -lt 1200 ]; do sleep 0.05; i=$((i+1)); done"
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        kill(signal, child.id());
        assert_eq!(lines.next(), Some(format!("got {signal}")));
        assert_eq!(child.wait().unwrap().code(), Some(5), "{signal}");
    }
}

#[test]
fn a_signal_that_ends_the_command_is_in_the_exit_code() {
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("USR1", 10)] {
        let rig = Rig::new();
        let mark = format!("8{number}{:06}", std::process::id());
        let mut child = rig
            .command(["run", "base", "sleep", &mark])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(|| is_sleeping(&mark));
        kill(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(128 + number), "{signal}");
    }
}

/// Whether the command itself runs; rbuild's own command line has the same words.
fn is_sleeping(mark: &str) -> bool {
    let found = host::processes_with(mark);
    found.iter().any(|line| line.starts_with("sleep "))
}

fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("waited too long");
}

#[test]
fn the_command_cannot_outlive_rbuild() {
    let rig = Rig::new();
    let mark = format!("4{:06}", std::process::id());
    let (mut child, _lines) = started(
        &rig,
        &format!("trap '' TERM INT; setsid sleep {mark} & true"),
    );
    let sleeping = || is_sleeping(&mark);
    wait_until(sleeping);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(|| !sleeping());
}

#[test]
fn the_command_has_a_terminal_of_its_own() {
    let rig = Rig::new();
    let script =
        "tty; stty size; echo $TERM; ls /dev/pts; ls /proc/self/fd; readlink /proc/self/fd/0";
    let command = rig.command(["run", "-it", "base", "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 91, 37);
    assert_eq!(terminal.end(), Some(0), "{}", terminal.screen);
    let lines: Vec<&str> = terminal.screen.split_whitespace().collect();
    assert_eq!(
        lines,
        [
            "/dev/pts/0",
            "37",
            "91",
            "xterm",
            "0",
            "ptmx",
            "0",
            "1",
            "2",
            "3",
            "/dev/pts/0"
        ]
    );
}

#[test]
fn a_terminal_of_the_caller_is_out_of_reach_without_one_too() {
    let rig = Rig::new();
    let script =
        "tty; for fd in 0 1 2; do test -t $fd && echo terminal; done; cat < /dev/tty || echo none";
    let command = rig.command(["run", "-i", "base", "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 80, 24);
    terminal.end();
    assert!(terminal.screen.contains("not a tty"), "{}", terminal.screen);
    assert!(!terminal.screen.contains("terminal"), "{}", terminal.screen);
    assert!(terminal.screen.contains("none"), "{}", terminal.screen);
}

#[test]
fn keys_arrive_and_the_shell_has_job_control() {
    let rig = Rig::new();
    let command = rig.command(["run", "-it", "-e", "PS1=prompt> ", "base", "sh"]);
    let mut terminal = Terminal::start(&command, 80, 24);
    terminal.wait_for("prompt> ");
    assert!(
        !terminal.screen.contains("job control"),
        "{}",
        terminal.screen
    );
    terminal.type_keys("echo $((6*7))\r");
    terminal.wait_for("42");
    terminal.clear();
    // An interrupt ends what runs in the foreground, not the shell.
    // What says that it has started is what gets the signal.
    terminal.type_keys("sh -c 'echo started-$((1+1)); exec sleep 100'\r");
    terminal.wait_for("started-2");
    terminal.type_keys("\u{3}");
    terminal.wait_for("prompt> ");
    terminal.clear();
    terminal.type_keys("echo code-$?\r");
    terminal.wait_for("code-130");
    // And a stop puts it into the background.
    terminal.clear();
    terminal.type_keys("sh -c 'echo started-$((2+2)); exec sleep 100'\r");
    terminal.wait_for("started-4");
    terminal.type_keys("\u{1a}");
    terminal.wait_for("Stopped");
    terminal.type_keys("exit 6\rexit 6\r");
    assert_eq!(terminal.end(), Some(6), "{}", terminal.screen);
}

#[test]
fn a_new_size_of_the_terminal_is_passed_on() {
    let rig = Rig::new();
    let script = "trap 'stty size; exit' WINCH; echo ready; \
                  i=0; while [ $i -lt 1200 ]; do sleep 0.05; i=$((i+1)); done; exit 9";
    let command = rig.command(["run", "-it", "base", "sh", "-c", script]);
    let mut terminal = Terminal::start(&command, 80, 24);
    terminal.wait_for("ready");
    terminal.stty(&["columns", "101", "rows", "43"]);
    terminal.wait_for("43 101");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn the_modes_of_the_callers_terminal_come_back() {
    let rig = Rig::new();
    let script = "stty raw -echo; echo ready; sleep 60";
    for (script, signal, code) in [
        ("stty -echo; echo ready", None, 0),
        ("echo ready; exit 3", None, 3),
        (script, Some("TERM"), 143),
        (script, Some("HUP"), 129),
    ] {
        let script = script.replace("sleep", "exec sleep");
        let command = rig.command(["run", "-it", "base", "sh", "-c", &script]);
        let mut terminal = Terminal::start(&command, 80, 24);
        terminal.wait_for("ready");
        if let Some(signal) = signal {
            assert!(
                terminal.stty(&["-a"]).contains("-icanon"),
                "it is raw meanwhile"
            );
            kill(signal, terminal.pid());
        }
        assert_eq!(terminal.end(), Some(code), "{}", terminal.screen);
        let modes = terminal.stty(&["-a"]);
        for mode in ["icanon", "echo", "isig", "opost", "icrnl"] {
            let mut set = modes.split_whitespace();
            assert!(set.any(|there| there == mode), "{mode}: {modes}");
        }
    }
    // Nor is it left raw by a command that cannot start.
    let command = rig.command(["run", "-it", "base", "no-such-program"]);
    let mut terminal = Terminal::start(&command, 80, 24);
    assert_eq!(terminal.end(), Some(127));
    assert!(terminal.stty(&["-a"]).contains(" icanon"));
}

#[test]
fn all_that_was_written_to_a_terminal_is_shown() {
    let rig = Rig::new();
    let command = rig.command(["run", "-t", "base", "seq", "1", "20000"]);
    let mut terminal = Terminal::start(&command, 80, 24);
    assert_eq!(terminal.end(), Some(0));
    let numbers: Vec<&str> = terminal.screen.split_whitespace().collect();
    assert_eq!(numbers.len(), 20_000);
    assert_eq!(numbers.last(), Some(&"20000"));
}

#[test]
fn keys_cannot_be_put_into_a_terminal() {
    let Some(program) = host::compile(
        "#include <errno.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n\
         int main(void) { for (int fd = 0; fd < 3; fd++) { int r = ioctl(fd, TIOCSTI, \"x\");\n\
         if (r == 0 || errno != EPERM) printf(\"managed %d %d\\n\", fd, errno); } puts(\"done\"); return 0; }",
    ) else {
        return;
    };
    let rig = Rig::new();
    rig.write("try", program).chmod("try", 0o755);
    for options in ["-it", "-i"] {
        let command = rig.command(["run", options, "-v", "./context:/c", "base", "/c/try"]);
        let mut terminal = Terminal::start(&command, 80, 24);
        terminal.end();
        assert!(terminal.screen.contains("done"), "{}", terminal.screen);
        assert!(!terminal.screen.contains("managed"), "{}", terminal.screen);
    }
}
