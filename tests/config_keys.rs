//! Images that differ in their configuration alone (CVE-2024-24557): what was built on one is not taken for
//! what is built on the other.

use crate::rig::Rig;

#[test]
fn an_image_has_its_own_configuration_whatever_its_files_share() {
    let rig = Rig::new();
    for (key, instruction) in [
        ("Healthcheck", "HEALTHCHECK --interval=5s CMD check"),
        ("OnBuild", "ONBUILD ENV N="),
        ("StopSignal", "STOPSIGNAL 1"),
        ("User", "USER 0:"),
        ("Volumes", "VOLUME /v"),
        ("ExposedPorts", "EXPOSE 808"),
        ("Labels", "LABEL n="),
        ("Entrypoint", "ENTRYPOINT entry"),
        ("Cmd", "CMD run"),
        (
            "Shell",
            "SHELL [\"/bin/sh\", \"-c\"]\nSHELL [\"/bin/sh\", \"-e",
        ),
        ("WorkingDir", "WORKDIR /w"),
        ("Env", "ENV N="),
    ] {
        let end = if key == "Shell" { "c\"]" } else { "" };
        let middle = |number: u32| match key {
            "Shell" if number == 2 => "u",
            "Shell" => "",
            _ => ["0", "1", "2"][number as usize],
        };
        // The setting comes before and after the step that both share.
        for order in ["before", "after"] {
            let mut seen = Vec::new();
            for number in [1, 2, 1] {
                let set = format!("{instruction}{}{end}", middle(number));
                let dockerfile = match order {
                    "before" => format!("FROM base\n{set}\nRUN echo shared > /tmp/shared"),
                    _ => format!("FROM base\nRUN echo shared > /tmp/shared\n{set}"),
                };
                let image = rig.image(&dockerfile);
                assert!(image.has("tmp/shared"), "{dockerfile}");
                seen.push((image.setting(key).clone(), image.id));
            }
            assert!(!seen[0].0.is_null(), "{key}");
            assert_ne!(seen[0], seen[1], "{key} {order}");
            assert_ne!(seen[0].0, seen[1].0, "{key} {order}");
            assert_eq!(seen[0].0, seen[2].0, "{key} {order}");
        }
    }
}

#[test]
fn triggers_of_a_base_that_has_changed_are_carried_out_anew() {
    let rig = Rig::new();
    for number in ["1", "2", "1"] {
        rig.dockerfile(&format!(
            "FROM base\nRUN true\nONBUILD RUN echo {number} > /n"
        ));
        rig.build(&["-t", "parent"]).succeeds();
        let image = rig.image("FROM parent\nRUN cat /n /n > /twice");
        assert_eq!(image.text("n"), format!("{number}\n"));
        assert_eq!(image.text("twice"), format!("{number}\n{number}\n"));
    }
}
