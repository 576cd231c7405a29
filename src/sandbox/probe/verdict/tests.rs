use super::*;

/// An ordinary user of a good host.
fn good() -> Facts {
    let yes = || Ok("yes".to_owned());
    Facts {
        kernel: Some((6, 1)),
        uid: 1000,
        user: Some("alice".to_owned()),
        no_new_privs: false,
        place: Place::Host,
        obstacle: None,
        single: None,
        mounts: yes(),
        overlay: yes(),
        fresh_proc: yes(),
        pivot: yes(),
        filter: yes(),
        listener: yes(),
        memory: yes(),
        chroot: Err("not root".to_owned()),
        chroot_allowed: false,
    }
}

fn no() -> Answer {
    Err("no".to_owned())
}

#[test]
fn what_is_missing_decides_the_rung() {
    let no_range = Some(Single::NoRange(vec!["/etc/subuid"]));
    for (name, facts, rung) in [
        ("nothing", good(), Rung::Mapped),
        (
            "ids",
            Facts {
                single: no_range.clone(),
                ..good()
            },
            Rung::Recorded,
        ),
        (
            "ids and a listener",
            Facts {
                single: no_range.clone(),
                listener: no(),
                ..good()
            },
            Rung::CopyOnly,
        ),
        (
            "ids and memory",
            Facts {
                single: no_range.clone(),
                memory: no(),
                ..good()
            },
            Rung::CopyOnly,
        ),
        (
            "ids and a new kernel",
            Facts {
                single: no_range,
                kernel: Some((5, 13)),
                ..good()
            },
            Rung::CopyOnly,
        ),
        (
            "only a listener",
            Facts {
                listener: no(),
                ..good()
            },
            Rung::Mapped,
        ),
        (
            "a kernel with overlays",
            Facts {
                kernel: Some((5, 10)),
                ..good()
            },
            Rung::CopyOnly,
        ),
        (
            "namespaces, of root",
            Facts {
                obstacle: Some(Refusal::Filter),
                chroot: Ok("works".to_owned()),
                ..good()
            },
            Rung::Chroot,
        ),
        (
            "a place for overlays",
            Facts {
                overlay: no(),
                ..good()
            },
            Rung::CopyOnly,
        ),
        (
            "a fresh /proc",
            Facts {
                fresh_proc: no(),
                ..good()
            },
            Rung::Mapped,
        ),
    ] {
        assert_eq!(facts.rung(), rung, "without {name}");
    }
}

#[test]
fn each_better_rung_has_something_missing_and_a_line_for_it() {
    for obstacle in [
        Refusal::Sysctl,
        Refusal::AppArmor,
        Refusal::Limit,
        Refusal::Filter,
        Refusal::Kernel,
        Refusal::Other,
    ] {
        let facts = Facts {
            obstacle: Some(obstacle),
            ..good()
        };
        let lacks = facts.lacks();
        let rungs: Vec<_> = lacks.iter().map(|lack| lack.rung).collect();
        assert_eq!(rungs, [Rung::Chroot, Rung::Recorded, Rung::Mapped]);
        for lack in lacks {
            assert!(!lack.missing.is_empty(), "{obstacle:?}: {lack:?}");
            assert!(!lack.remedies.is_empty(), "{obstacle:?}: {lack:?}");
        }
    }
}

#[test]
fn the_line_for_subordinate_ids_names_the_user() {
    let line = |facts: &Facts| facts.lacks()[0].remedies[0].line.clone();
    let mut facts = Facts {
        single: Some(Single::NoRange(vec!["/etc/subuid", "/etc/subgid"])),
        ..good()
    };
    assert_eq!(
        line(&facts),
        "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 alice"
    );
    facts.user = None;
    assert_eq!(
        line(&facts),
        "echo 1000:100000:65536 | tee -a /etc/subuid /etc/subgid"
    );
}

#[test]
fn a_masked_proc_is_advice_and_no_obstacle() {
    let facts = Facts {
        fresh_proc: no(),
        ..good()
    };
    let lines: Vec<_> = facts
        .advice()
        .into_iter()
        .map(|advice| advice.line)
        .collect();
    assert!(
        lines.contains(&"procMount: Unmasked".to_owned()),
        "{lines:?}"
    );
    assert_eq!(good().advice(), []);
}
