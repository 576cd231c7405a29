//! The configuration that metadata instructions write, and the history.

use serde_json::{Value, json};

use crate::rig::Rig;

/// A member of `config` after `instructions` on an empty image.
fn setting(instructions: &str, name: &str) -> Value {
    let rig = Rig::empty();
    rig.image(&format!("FROM scratch\n{instructions}"))
        .setting(name)
        .clone()
}

#[test]
fn every_instruction_writes_its_part_of_the_configuration() {
    for (instructions, name, expected) in [
        (
            "ENV a=1 b=\"2 3\"\nENV c 4 5",
            "Env",
            json!(["a=1", "b=2 3", "c=4 5"]),
        ),
        (
            "LABEL a=1 \"b c\"=2\nLABEL a=3",
            "Labels",
            json!({"a": "3", "b c": "2"}),
        ),
        (
            "EXPOSE 80 443/TCP 53/udp",
            "ExposedPorts",
            json!({"443/tcp": {}, "53/udp": {}, "80/tcp": {}}),
        ),
        (
            "EXPOSE 8000-8002",
            "ExposedPorts",
            json!({"8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}),
        ),
        (
            "ENV p=\"1 2\"\nEXPOSE $p",
            "ExposedPorts",
            json!({"1/tcp": {}, "2/tcp": {}}),
        ),
        ("USER app:staff", "User", json!("app:staff")),
        ("WORKDIR /a\nWORKDIR b/../c", "WorkingDir", json!("/a/c")),
        ("VOLUME /a /b", "Volumes", json!({"/a": {}, "/b": {}})),
        ("VOLUME [\"/a b\"]", "Volumes", json!({"/a b": {}})),
        ("STOPSIGNAL SIGUSR1", "StopSignal", json!("SIGUSR1")),
        ("STOPSIGNAL 9", "StopSignal", json!("9")),
        (
            "SHELL [\"/bin/bash\", \"-c\"]",
            "Shell",
            json!(["/bin/bash", "-c"]),
        ),
        (
            "CMD echo $HOME",
            "Cmd",
            json!(["/bin/sh", "-c", "echo $HOME"]),
        ),
        ("CMD [\"a\", \"b\"]", "Cmd", json!(["a", "b"])),
        ("CMD a\nCMD [\"b\"]", "Cmd", json!(["b"])),
        ("SHELL [\"/s\"]\nCMD a", "Cmd", json!(["/s", "a"])),
        ("ENTRYPOINT [\"a\"]", "Entrypoint", json!(["a"])),
        (
            "ENTRYPOINT a b",
            "Entrypoint",
            json!(["/bin/sh", "-c", "a b"]),
        ),
        ("ENTRYPOINT []", "Entrypoint", Value::Null),
        ("CMD []", "Cmd", Value::Null),
        ("CMD a", "ArgsEscaped", json!(true)),
        ("CMD [\"a\"]", "ArgsEscaped", json!(true)),
        ("ENTRYPOINT a", "ArgsEscaped", Value::Null),
        (
            "CMD a\nENTRYPOINT [\"e\"]",
            "Cmd",
            json!(["/bin/sh", "-c", "a"]),
        ),
        (
            "SHELL [\"/s\", \"-x\"]\nENTRYPOINT a",
            "Entrypoint",
            json!(["/s", "-x", "a"]),
        ),
        ("LABEL a=1", "WorkingDir", json!("/")),
        ("WORKDIR a", "WorkingDir", json!("/a")),
        ("WORKDIR /a/../../b//c/", "WorkingDir", json!("/b/c")),
        ("WORKDIR ~", "WorkingDir", json!("/~")),
        ("ENV a=1\nENV b=2\nENV a=3", "Env", json!(["a=3", "b=2"])),
        ("ENV k=name\nENV $k=v", "Env", json!(["k=name", "name=v"])),
        ("ENV a=", "Env", json!(["a="])),
        ("ENV a b=c", "Env", json!(["a=b=c"])),
        ("LABEL a 1 2", "Labels", json!({"a": "1 2"})),
        (
            "EXPOSE 127.0.0.1:80:8080",
            "ExposedPorts",
            json!({"8080/tcp": {}}),
        ),
        ("EXPOSE 9/sctp", "ExposedPorts", json!({"9/sctp": {}})),
        ("USER 1000", "User", json!("1000")),
        ("STOPSIGNAL term", "StopSignal", json!("term")),
        ("STOPSIGNAL rtmin+3", "StopSignal", json!("rtmin+3")),
        ("ONBUILD RUN make", "OnBuild", json!(["RUN make"])),
        (
            "HEALTHCHECK --interval=5s --timeout=1m --start-period=1h --retries=3 CMD check me",
            "Healthcheck",
            json!({
                "Test": ["CMD-SHELL", "check me"], "Interval": 5_000_000_000_u64,
                "Timeout": 60_000_000_000_u64, "StartPeriod": 3_600_000_000_000_u64, "Retries": 3
            }),
        ),
        (
            "HEALTHCHECK CMD [\"a\"]",
            "Healthcheck",
            json!({"Test": ["CMD", "a"]}),
        ),
        ("HEALTHCHECK NONE", "Healthcheck", json!({"Test": ["NONE"]})),
        (
            "HEALTHCHECK --start-interval=1.5s --interval=0s CMD [\"a\", \"b\"]",
            "Healthcheck",
            json!({"Test": ["CMD", "a", "b"], "StartInterval": 1_500_000_000_u64}),
        ),
        (
            "HEALTHCHECK CMD old\nHEALTHCHECK CMD new",
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "new"]}),
        ),
    ] {
        let mut actual = setting(instructions, name);
        if let (Some(env), "Env") = (actual.as_array_mut(), name) {
            env.retain(|entry| !entry.as_str().unwrap().starts_with("PATH="));
        }
        assert_eq!(actual, expected, "{instructions}");
    }
}

#[test]
fn an_entrypoint_resets_the_inherited_cmd_only() {
    let rig = Rig::empty();
    let image = rig.image("FROM scratch AS a\nCMD [\"old\"]\nFROM a\nENTRYPOINT [\"e\"]");
    assert!(image.setting("Cmd").is_null());
    let image =
        rig.image("FROM scratch AS a\nCMD [\"old\"]\nFROM a\nCMD [\"new\"]\nENTRYPOINT [\"e\"]");
    assert_eq!(*image.setting("Cmd"), json!(["new"]));
}

#[test]
fn maintainer_is_the_author() {
    let rig = Rig::empty();
    let image = rig.image("FROM scratch\nMAINTAINER me <me@example.org>");
    assert_eq!(image.config["author"], "me <me@example.org>");
}

#[test]
fn the_base_configuration_is_inherited_in_order() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nENV z=1 a=2\nUSER root\nLABEL from=base\nVOLUME /v");
    rig.build(&["-t", "parent"]).succeeds();
    let image = rig.image("FROM parent\nENV z=3 b=4\nLABEL own=yes");
    let env: Vec<_> = image
        .setting("Env")
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry.as_str().unwrap())
        .filter(|entry| !entry.starts_with("PATH="))
        .collect();
    assert_eq!(env, ["z=3", "a=2", "b=4"]);
    assert_eq!(
        *image.setting("Labels"),
        json!({"from": "base", "own": "yes"})
    );
    assert_eq!(image.setting("User"), "root");
    assert_eq!(*image.setting("Volumes"), json!({"/v": {}}));
}

#[test]
fn labels_of_the_command_line_win() {
    let rig = Rig::empty();
    let image = rig.image_with(
        "FROM scratch\nLABEL a=file b=file",
        &["--label", "a=option"],
    );
    assert_eq!(
        *image.setting("Labels"),
        json!({"a": "option", "b": "file"})
    );
}

#[test]
fn the_platform_is_this_machines() {
    let rig = Rig::empty();
    let image = rig.image("FROM scratch\nLABEL a=b");
    let arch = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    assert_eq!(image.config["architecture"], arch);
    assert_eq!(image.config["os"], "linux");
    assert_eq!(image.config["rootfs"]["type"], "layers");
}

#[test]
fn history_has_a_row_for_every_instruction_as_docker_writes_it() {
    let rig = Rig::new();
    rig.write("file", "");
    let image = rig.image_with(
        "FROM base\nARG a=1\nENV b=2\nRUN touch /x\nCOPY file /f\nWORKDIR /w\nCMD [\"x\"]",
        &[],
    );
    let rows = image.config["history"].as_array().unwrap();
    // The base has one row for its import.
    let own: Vec<(&str, bool)> = rows[1..]
        .iter()
        .map(|row| {
            (
                row["created_by"].as_str().unwrap(),
                row["empty_layer"] == true,
            )
        })
        .collect();
    assert_eq!(
        own,
        [
            ("ARG a=1", true),
            ("ENV b=2", true),
            ("RUN |1 a=1 /bin/sh -c touch /x # buildkit", false),
            ("COPY file /f # buildkit", false),
            ("WORKDIR /w", false),
            ("CMD [\"x\"]", true),
        ]
    );
    let layers = rows.iter().filter(|row| row["empty_layer"] != true).count();
    assert_eq!(layers, image.layers.len());
}

#[test]
fn workdir_makes_its_directory() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nWORKDIR /a/b\nRUN touch c");
    assert_eq!(image.file("a").mode, 0o755);
    assert!(image.has("a/b/c"));
}

#[test]
fn invalid_values_are_refused_at_their_line() {
    for (instruction, needle) in [
        ("EXPOSE 70000", "70000"),
        ("EXPOSE 80/icmp", "icmp"),
        ("STOPSIGNAL SIGNOTHING", "SIGNOTHING"),
        ("SHELL /bin/sh", "JSON"),
        ("HEALTHCHECK --interval=soon CMD x", "soon"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("ONBUILD FROM x", "FROM"),
        ("ONBUILD ONBUILD RUN x", "ONBUILD"),
        ("ENV a", "ENV"),
        ("USER", "USER"),
        ("VOLUME [\"\"]", "VOLUME"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE a", "invalid containerPort: a"),
        ("EXPOSE 9-8", "invalid containerPort: 9-8"),
        ("CMD [\"a\", 1]", "arrays must be comprised of strings only"),
        ("HEALTHCHECK", "HEALTHCHECK"),
        ("HEALTHCHECK --retries=-1 CMD x", "retries"),
        ("HEALTHCHECK --interval=1us CMD x", "1ms"),
        ("LABEL a=1 b", "Syntax error - can't find = in \"b\""),
        ("ARG", "ARG requires at least one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
    ] {
        let rig = Rig::empty();
        rig.dockerfile(&format!("FROM scratch\n{instruction}"));
        rig.build(&[]).exits_with(1).says(&["Dockerfile:2", needle]);
    }
}
