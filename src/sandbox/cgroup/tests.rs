use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::*;

const PID: u32 = 4711;

/// A tree of plain files that looks like a delegated cgroup called `own`.
struct Tree {
    root: tempfile::TempDir,
}

impl Tree {
    fn new(controllers: &str) -> Self {
        let tree = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(tree.directory()).unwrap();
        for (name, text) in [
            ("cgroup.procs", format!("{PID}\n")),
            ("cgroup.subtree_control", String::new()),
            ("cgroup.type", "domain\n".to_owned()),
            ("cgroup.controllers", format!("{controllers}\n")),
        ] {
            tree.write(name, &text);
        }
        tree
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("own")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap()
    }

    fn find(&self) -> Result<Delegation, Lack> {
        let mounts = format!(
            "41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n",
            self.root.path().display()
        );
        Delegation::of("4:memory:/a\n0::/own\n", &mounts, PID)
    }
}

fn bounds() -> Bounds {
    Bounds {
        cpus: Some(1500),
        memory: Some(64 << 20),
        processes: Some(40),
        ..Bounds::default()
    }
}

#[test]
fn a_cgroup_is_used_only_when_it_is_ours_alone() {
    let tree = Tree::new("cpuset cpu memory pids");
    assert_eq!(tree.find().unwrap().describe().unwrap(), "cpu memory pids");
    for (name, text, reason) in [
        ("cgroup.procs", "4711\n4712\n", "other processes"),
        ("cgroup.procs", "0\n4711\n", "other processes"),
        ("cgroup.type", "domain threaded\n", "threaded"),
    ] {
        let tree = Tree::new("cpu");
        tree.write(name, text);
        let lack = tree.find().unwrap_err().to_string();
        assert!(lack.contains(reason), "{lack}");
    }
    let tree = Tree::new("cpu");
    fs::remove_file(tree.directory().join("cgroup.subtree_control")).unwrap();
    assert!(matches!(tree.find(), Err(Lack::Delegated(_))));
    fs::remove_file(tree.directory().join("cgroup.procs")).unwrap();
    assert!(matches!(tree.find(), Err(Lack::Mount)));
    assert!(matches!(
        Delegation::of("4:cpu:/\n", "", PID),
        Err(Lack::Hierarchy)
    ));
}

#[test]
fn cpus_without_its_controller_are_a_lack_and_others_are_left_out() {
    let names =
        |home: &Home| -> Vec<&str> { home.controllers.iter().map(|one| one.name()).collect() };
    let without_cpus = Bounds {
        cpus: None,
        ..bounds()
    };
    for (controllers, bounds, expected) in [
        (
            "cpu memory pids",
            bounds(),
            Some(vec!["cpu", "memory", "pids"]),
        ),
        ("cpu", bounds(), Some(vec!["cpu"])),
        ("memory pids", bounds(), None),
        ("memory hugetlb", without_cpus.clone(), Some(vec!["memory"])),
        ("hugetlb", without_cpus, None),
    ] {
        let tree = Tree::new(controllers);
        let home = tree.find().unwrap().divide(&bounds, PID);
        match expected {
            Some(expected) => assert_eq!(names(&home.unwrap()), expected),
            None => {
                assert!(
                    matches!(home, Err(Lack::Controller { .. })),
                    "{controllers}"
                );
                assert_eq!(tree.read("cgroup.subtree_control"), "");
                assert!(!tree.directory().join("rbuild-4711").exists());
            }
        }
    }
}

#[test]
fn a_group_has_the_limits_and_its_processes_one_below() {
    let tree = Tree::new("cpu memory pids");
    let home = tree.find().unwrap().divide(&bounds(), PID).unwrap();
    assert_eq!(tree.read("rbuild-4711/cgroup.procs"), "4711");
    let group = home.group(&bounds()).unwrap();
    group.add(4712).unwrap();
    for (name, text) in [
        ("cpu.max", "150000 100000"),
        ("memory.max", "67108864"),
        ("memory.oom.group", "1"),
        ("pids.max", "104"),
        ("cgroup.max.descendants", "1"),
        ("step/cgroup.procs", "4712"),
    ] {
        assert_eq!(tree.read(&format!("rbuild-4711-0/{name}")), text, "{name}");
    }
    drop(group);
    assert_eq!(tree.read("rbuild-4711-0/cgroup.kill"), "1");
    drop(home);
    assert_eq!(tree.read("cgroup.procs"), "4711");
    assert_eq!(tree.read("cgroup.subtree_control"), "-pids");
}

#[test]
fn what_the_kernel_kept_from_being_passed_is_named() {
    for (memory, pids, named) in [
        (
            "oom 1\noom_kill 2\noom_group_kill 1\n",
            "max 0\n",
            Some("memory=64m"),
        ),
        ("oom 0\noom_kill 2\n", "max 0\n", None),
        ("oom 3\noom_kill 0\n", "max 2\n", Some("processes=40")),
        ("", "", None),
    ] {
        let tree = Tree::new("cpu memory pids");
        let home = tree.find().unwrap().divide(&bounds(), PID).unwrap();
        let group = home.group(&bounds()).unwrap();
        tree.write("rbuild-4711-0/memory.events", memory);
        tree.write("rbuild-4711-0/pids.events", pids);
        let exceeded = group.finish().map(|exceeded| exceeded.to_string());
        match named {
            Some(named) => assert!(exceeded.unwrap().contains(named)),
            None => assert_eq!(exceeded, None),
        }
    }
}

#[test]
fn what_a_killed_rbuild_left_is_removed() {
    let tree = Tree::new("cpu");
    // No process has the greatest number there can be.
    for name in [
        "rbuild-4194305",
        "rbuild-4194305-0/step",
        "rbuild-1",
        "other-4194305",
    ] {
        fs::create_dir_all(tree.directory().join(name)).unwrap();
    }
    sweep(&tree.directory(), PID);
    for (name, stays) in [
        ("rbuild-4194305", false),
        ("rbuild-4194305-0", false),
        ("rbuild-1", true),
        ("other-4194305", true),
    ] {
        assert_eq!(tree.directory().join(name).exists(), stays, "{name}");
    }
}

/// With a real hierarchy, if the user of the tests has a part of it; no controller is needed.
#[test]
fn dropping_a_group_kills_what_is_in_it() {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (cgroups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
    let own = place::own(&cgroups).map(|own| place::directories(own, &mounts));
    let directory = own.into_iter().flatten().find(|directory| {
        let may_write =
            |name: &str| nix::unistd::access(&directory.join(name), AccessFlags::W_OK).is_ok();
        may_write("") && may_write("cgroup.procs") && directory.join("cgroup.kill").exists()
    });
    let Some(directory) = directory else {
        println!("skipped: no cgroup is delegated to this user");
        return;
    };
    let directory = directory.join(format!("rbuild-{}-unit", std::process::id()));
    let group = Group::make(directory.clone(), &[], &Bounds::default()).unwrap();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let added = group.add(child.id());
    let place = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    drop(group);
    if added.is_err() {
        child.kill().unwrap();
    }
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    added.unwrap();
    assert!(
        place::own(&place).unwrap().ends_with("-unit/step"),
        "{place}"
    );
    assert!(!directory.exists());
}
