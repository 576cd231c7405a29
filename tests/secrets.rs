//! `RUN --mount=type=secret`: what a command gets, and that nothing else does.

use std::fs;
use std::path::Path;

use crate::rig::Rig;

const SECRET: &str = "hunter2-hunter2";

/// A rig whose secret `s` is in a file, and the option that gives it.
fn rig() -> (Rig, String) {
    let rig = Rig::new();
    fs::write(rig.path("token"), SECRET).unwrap();
    let option = format!("--secret=id=s,src={}", rig.path("token").display());
    (rig, option)
}

#[test]
fn how_a_command_sees_a_secret() {
    let digest = "sha256sum | cut -c1-8";
    for (mount, command, expected) in [
        ("id=s", "cat /run/secrets/s", true),
        ("source=s", "cat /run/secrets/s", true),
        ("id=s,target=/t/x", "cat /t/x", true),
        ("target=/t/s", "cat /t/s", true),
        ("id=s,target=rel", "cat /w/rel", true),
        ("id=s,env=TOKEN", "printf %s \"$TOKEN\"", true),
        ("id=s,env=PATH2,target=/t", "cat /t", true),
        ("id=s,env=TOKEN", "cat /run/secrets/s", false),
        ("id=s,env=TOKEN,target=/t", "printf %s \"$TOKEN\"", true),
        ("id=s,env=SET", "printf %s \"$SET\"", true),
        ("id=s,required", "cat /run/secrets/s", true),
        ("id=s,required=true", "cat /run/secrets/s", true),
        ("id=$ID", "cat /run/secrets/s", true),
    ] {
        let (rig, option) = rig();
        let image = rig.image_with(
            &format!(
                "FROM base\nENV SET=before\nARG ID=s\nWORKDIR /w\n\
                 RUN --mount=type=secret,{mount} ({command}) 2>/dev/null | {digest} > /out"
            ),
            &[&option],
        );
        let of_secret = "RUN printf ".to_owned() + SECRET + " | sha256sum | cut -c1-8 > /out";
        let wanted = Rig::new()
            .image(&format!("FROM base\n{of_secret}"))
            .text("out");
        assert_eq!(image.text("out") == wanted, expected, "{mount}: {command}");
    }
}

#[test]
fn a_secret_that_a_command_prints_is_masked_in_the_log() {
    let (rig, option) = rig();
    for mount in ["id=s", "id=s,env=TOKEN"] {
        for end in ["true", "false"] {
            rig.dockerfile(&format!(
                "FROM base\nRUN --mount=type=secret,{mount} echo before; cat /run/secrets/s; echo; \
                 echo $TOKEN after >&2; {end}"
            ));
            let outcome = rig.build(&["--no-cache", &option]).says(&["before", "***"]);
            assert!(!outcome.stderr.contains(SECRET), "{}", outcome.stderr);
        }
    }
}

#[test]
fn mode_and_owner_of_a_secret() {
    for (options, expected) in [
        ("", "400 0:0"),
        (",mode=0444", "444 0:0"),
        (",mode=640", "640 0:0"),
    ] {
        let (rig, option) = rig();
        let image = rig.image_with(
            &format!(
                "FROM base\nRUN --mount=type=secret,id=s{options} \
                 stat -c '%a %u:%g' /run/secrets/s > /out"
            ),
            &[&option],
        );
        assert_eq!(image.text("out").trim(), expected, "{options}");
    }
    let (rig, option) = rig();
    let dockerfile = "FROM base\nRUN --mount=type=secret,id=s,uid=7,gid=8 \
                      stat -c '%a %u:%g' /run/secrets/s > /out";
    let image = rig.image_with(dockerfile, &[&option]);
    assert_eq!(image.text("out").trim(), "400 7:8");
}

#[test]
fn a_secret_that_is_not_given() {
    let rig = Rig::new();
    let text = rig
        .image(
            "FROM base\nRUN --mount=type=secret,id=s --mount=type=secret,id=t,env=T \
             (ls /run/secrets/s; echo \"<$T>\") > /out 2>&1",
        )
        .text("out");
    assert!(
        text.contains("No such file") && text.contains("<>"),
        "{text}"
    );
    for mount in ["id=s,required", "id=s,env=S,required=true"] {
        rig.dockerfile(&format!("FROM base\nRUN --mount=type=secret,{mount} true"));
        rig.build(&[]).exits_with(1).says(&[
            "Dockerfile:2",
            "secret s: not found",
            "--secret id=s",
        ]);
    }
}

#[test]
fn the_value_of_a_secret_is_in_no_key_but_its_options_are() {
    let (rig, option) = rig();
    for mount in ["id=s", "id=s,env=TOKEN"] {
        rig.dockerfile(&format!(
            "FROM base\nRUN --mount=type=secret,{mount} true {mount}"
        ));
        rig.build(&[&option]).succeeds();
        fs::write(rig.path("token"), "another").unwrap();
        let again = rig.build(&[&option]).succeeds();
        assert!(again.step(&format!("true {mount}")).is_cached(), "{mount}");
        let without = rig.build(&[]).succeeds();
        assert!(
            without.step(&format!("true {mount}")).is_cached(),
            "{mount}"
        );
    }
}

#[test]
fn a_secret_is_nowhere_but_in_its_command() {
    let (rig, option) = rig();
    let archive = rig.path("image.tar");
    let image = rig.image_with(
        "FROM base\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,env=TOKEN \
         --mount=type=secret,id=s,target=/etc/over --mount=type=cache,target=/c \
         test -s /run/secrets/s && test -n \"$TOKEN\" && touch /c/x && env | grep -c TOKEN > /n\n\
         RUN (ls -A /run /run/secrets /etc/over; env) > /after 2>&1 || true",
        &[&option],
    );
    let after = image.text("after");
    assert!(
        !after.contains(SECRET) && !after.contains("TOKEN"),
        "{after}"
    );
    for path in ["run/secrets", "run/secrets/s", "etc/over", "c"] {
        assert!(!image.files().contains_key(path), "{path}");
    }
    assert!(!image.config.to_string().contains(SECRET));
    assert!(!contains(&fs::read(archive).unwrap(), SECRET));
    assert_not_in(&rig.store());
}

#[test]
fn a_failed_step_does_not_tell_its_secrets() {
    let (rig, option) = rig();
    fs::write(rig.path("zero"), format!("{SECRET}\0x")).unwrap();
    let zero = format!("--secret=id=z,src={}", rig.path("zero").display());
    for mount in ["id=s,env=TOKEN", "id=z,env=TOKEN", "id=s"] {
        for command in ["false", "[\"/missing\"]"] {
            rig.dockerfile(&format!(
                "FROM base\nRUN --mount=type=secret,{mount} {command}"
            ));
            let outcome = rig.build(&[&option, &zero]).exits_with(1);
            assert!(!outcome.stderr.contains(SECRET), "{}", outcome.stderr);
        }
    }
    assert_not_in(&rig.store());
}

#[test]
fn a_secret_behind_a_hostile_link_stays_in_the_sandbox() {
    let (rig, option) = rig();
    let outside = rig.path("outside");
    fs::create_dir(&outside).unwrap();
    for link in [
        outside.display().to_string(),
        "/etc".to_owned(),
        "../../../etc".to_owned(),
    ] {
        let image = rig.image_with(
            &format!(
                "FROM base\nRUN mkdir -p /run && ln -sfn {link} /run/secrets\n\
                 RUN --mount=type=secret,id=s test -s /run/secrets/s && echo seen > /out"
            ),
            &[&option],
        );
        assert_eq!(image.text("out"), "seen\n", "{link}");
        assert!(!image.files().contains_key("etc/s"), "{link}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
    assert_not_in(&rig.store());
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes
        .windows(needle.len())
        .any(|part| part == needle.as_bytes())
}

#[track_caller]
fn assert_not_in(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            assert_not_in(&path);
        } else if kind.is_file()
            && let Ok(bytes) = fs::read(&path)
        {
            assert!(
                !contains(&bytes, SECRET),
                "the secret is in {}",
                path.display()
            );
        }
    }
}
