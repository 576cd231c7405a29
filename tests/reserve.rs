//! A sandbox that is begun while the command before runs, and taken apart while its layer is made: the steps
//! must not notice, and nothing of it may stay.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::Rig;

#[test]
fn nothing_of_one_sandbox_is_in_the_next() {
    let rig = Rig::new();
    let steps = 4;
    let mut dockerfile = String::from("FROM base\n");
    for step in 0..steps {
        dockerfile.push_str(&format!(
            "RUN ls -A /dev /dev/shm /dev/pts /dev/mqueue > /dev-{step}; touch /dev/left /dev/shm/left; \
             rm /dev/fd; hostname > /name-{step}; hostname left; ls /proc | grep -c '^[0-9]' > /count-{step}\n"
        ));
    }
    let image = rig.image(&dockerfile);
    for name in ["dev", "name", "count"] {
        let first = image.text(&format!("{name}-0"));
        assert!(!first.contains("left"), "{first}");
        for step in 1..steps {
            assert_eq!(
                image.text(&format!("{name}-{step}")),
                first,
                "{name} {step}"
            );
        }
    }
}

#[test]
fn a_sandbox_that_was_begun_for_another_network_is_not_taken() {
    let rig = Rig::new();
    let dockerfile = "FROM base\nRUN readlink /proc/self/ns/net > /0\n\
                      RUN --network=none ls /sys/class/net > /1; readlink /proc/self/ns/net >> /1\n\
                      RUN readlink /proc/self/ns/net > /2\n\
                      RUN --network=none ls /sys/class/net > /3; readlink /proc/self/ns/net >> /3";
    let image = rig.image(dockerfile);
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    for shared in ["0", "2"] {
        assert_eq!(image.text(shared).trim(), own.to_str().unwrap(), "{shared}");
    }
    for apart in ["1", "3"] {
        let text = image.text(apart);
        let (interfaces, namespace) = text.split_once('\n').unwrap();
        assert_eq!(interfaces, "lo", "{text}");
        assert_ne!(namespace.trim(), own.to_str().unwrap());
    }
}

#[test]
fn the_size_of_shared_memory_is_that_of_the_build() {
    let rig = Rig::new();
    let dockerfile = "FROM base\nRUN df -k /dev/shm > /0\nRUN df -k /dev/shm > /1";
    let image = rig.image_with(dockerfile, &["--shm-size=3m"]);
    for step in ["0", "1"] {
        let text = image.text(step);
        assert!(text.contains(" 3072 "), "{text}");
    }
}

#[test]
fn who_never_stops_writing_has_stopped_before_the_layer_is_made() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\n\
         RUN for i in 1 2 3 4; do (trap '' HUP TERM INT; setsid sh -c 'while :; do echo x >> /w; (echo y >> /w &); \
         done') & done; until test -s /w; do :; done\n\
         RUN wc -c < /w > /count; echo z >> /w; wc -c < /w > /after",
    );
    let (count, after) = (image.text("count"), image.text("after"));
    let layer = &image.layers[image.layers.len() - 2].entries;
    let (_, file) = layer.iter().find(|(name, _)| name == "w").unwrap();
    let written = file.content.len();
    assert_eq!(count.trim(), written.to_string());
    assert_eq!(after.trim(), (written + 2).to_string());
}

/// The processes whose session is `session`, by their fields in proc_pid_stat(5).
fn of_session(session: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_of = |stat: &String| {
        let fields = stat.rsplit(") ").next().unwrap();
        fields.split(' ').nth(3) == Some(&session.to_string())
    };
    stats.filter(is_of).collect()
}

#[test]
fn sandboxes_that_were_begun_in_vain_are_gone_with_the_build() {
    let rig = Rig::new();
    for (dockerfile, code) in [
        ("FROM base\nRUN false\nRUN true", 1),
        // What is begun for the last command is taken by none.
        ("FROM base\nRUN --network=none true\nRUN true", 0),
        (
            "FROM base AS a\nRUN sleep 1\nRUN true\nFROM base\nRUN false\nRUN true\nCOPY --from=a / /",
            1,
        ),
    ] {
        rig.dockerfile(dockerfile);
        let build = rig.build_command(&[]);
        let mut command = Command::new("setsid");
        command.arg(build.get_program()).args(build.get_args());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut build = command.spawn().unwrap();
        // setsid(1) becomes the program, so the session has its number.
        let session = build.id();
        assert_eq!(build.wait().unwrap().code(), Some(code), "{dockerfile}");
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let left = of_session(session);
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < patience, "{dockerfile}: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
