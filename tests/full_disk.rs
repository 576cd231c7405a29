//! A disk that is full at any point of a build: what fails says so, the store stays whole, and with space
//! the next build is right.

use std::fs;
use std::process::Command;

use crate::crash::points;
use crate::rig::{Rig, base, host};

/// File systems that hold from next to nothing up to the whole build: options of a tmpfs.
fn disks() -> Vec<String> {
    let many = points().max(4);
    let sizes = (0..many).map(|number| format!("size={}k", 120 + number * 9000 / many));
    let inodes = (0..many).map(|number| format!("nr_inodes={}", 20 + number * 700 / many));
    sizes.chain(inodes).collect()
}

const SCRIPT: &str = r#"set -e
export RBUILD_ROOT=disk/store
wrong() { echo "$disk: $*:" >&2; cat out err >&2; exit 9; }
failed=0 whole=0
for disk in $DISKS; do
    mount -t tmpfs -o mode=0700,$disk none disk
    done=yes
    for command in "import base.tar base" "build --progress=plain -t app context"; do
        if ! "$RBUILD" $command > out 2> err; then
            grep -q -e 'No space left on device' -e 'no space' err || wrong "$command"
            test "$(grep -c '^error' err)" = 1 || wrong "$command has not one error"
            done=no
            break
        fi
    done
    if [ $done = yes ]; then whole=$((whole + 1)); else failed=$((failed + 1)); fi
    "$RBUILD" store check > out 2> err || wrong "store check"
    mount --options-mode=ignore -t tmpfs -o remount,size=64m,nr_inodes=20000 none disk
    "$RBUILD" import base.tar base > out 2> err || wrong "import with space"
    "$RBUILD" build -q -t app context > out 2> err || wrong "build with space"
    "$RBUILD" save -o app.tar app > out 2> err || wrong "save"
    "$RBUILD" run --rm app cat /n /copied > said 2> err || wrong "run"
    test "$(cat said)" = "$(printf 'one\ntwo')" || wrong "the image has $(cat said)"
    "$RBUILD" store check --repair --deep > out 2> err || wrong "store check --repair"
    if grep -q '^damage' out; then wrong "damage"; fi
    umount disk
done
echo "$failed disks were too small, $whole held everything"
"#;

#[test]
fn a_build_on_a_disk_of_any_size_fails_with_one_error_or_is_right() {
    if !host::tool("unshare") {
        return;
    }
    let rig = Rig::empty();
    rig.dockerfile(
        "FROM base\nRUN echo one > /n && dd if=/dev/zero of=/big bs=65536 count=20 && mkdir /d && \
         for i in 1 2 3 4 5 6 7 8 9; do echo $i > /d/$i; done\nCOPY copied /copied\n",
    );
    rig.write("copied", "two\n");
    fs::write(rig.path("base.tar"), base::root_filesystem()).unwrap();
    fs::create_dir(rig.path("disk")).unwrap();
    let mut run = Command::new("timeout");
    run.args([
        "-k",
        "5",
        "1500",
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
    ]);
    run.args(["sh", "-c", SCRIPT])
        .env("DISKS", disks().join(" "))
        .env("RBUILD", host::binary())
        .env("NO_COLOR", "1")
        .current_dir(rig.path(""));
    let stdout = String::from_utf8(host::stdout_of(&mut run)).unwrap();
    println!("{stdout}");
    assert!(!stdout.starts_with("0 "), "{stdout}");
}
