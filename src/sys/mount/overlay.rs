//! Overlays that are attached nowhere, on kernels that can be told of each layer and on those that want all
//! layers in one text.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use super::{Attributes, Context, Propagation, open_tree, set_propagation, working_directory};
use crate::sys::{Error, Result, fs, process};

/// The longest value that fsconfig(2) takes.
const LONGEST_VALUE: usize = 255;
/// The longest option text that mount(2) takes: a page without the byte that ends it.
const LONGEST_OPTIONS: usize = 4095;

/// A detached overlay (gone with the descriptor unless attached) of `lowers`, topmost first, and an upper
/// with its work directory. With a single lower and no upper there is nothing to merge and the result is
/// that directory itself. All paths are absolute.
///
/// The overlay keeps its marks in `user.overlay.*` and is volatile: `work` must be empty and never used
/// before, and after a power cut `upper` is worth nothing.
///
/// Before Linux 6.7 the names of the layers have to fit in a page; E2BIG if they do not.
pub(crate) fn overlay(
    lowers: &[PathBuf],
    upper: Option<&Path>,
    work: Option<&Path>,
) -> Result<OwnedFd> {
    if let ([only], None) = (lowers, upper) {
        return fs::open_directory(only);
    }
    let layers = Layers {
        lowers,
        upper: upper.zip(work),
    };
    static TAKES_EVERY_KEY: OnceLock<bool> = OnceLock::new();
    if *TAKES_EVERY_KEY.get_or_init(takes_every_key) {
        return layers.mount_all();
    }
    match layers.mount_each() {
        Err(error)
            if error.errno == Errno::EINVAL && (layers.have_long_names() || !takes_each()) =>
        {
            layers.mount_all()
        }
        other => other,
    }
}

/// Whether the kernel looks at the options of an overlay only at the end, as before Linux 6.5. It does not know
/// `lowerdir+` either, and writes a line into its log for each mount that tries.
fn takes_every_key() -> bool {
    // The key takes a value where it is known, so nobody else takes it like this.
    Context::open(c"overlay").is_ok_and(|context| context.set_flag(c"lowerdir+").is_ok())
}

/// Whether an overlay takes its lowers one by one, with the key `lowerdir+` of Linux 6.7.
fn takes_each() -> bool {
    let Ok(context) = Context::open(c"overlay") else {
        return true;
    };
    // EINVAL is what a kernel says that does not know the key, not that there is no such directory.
    let nowhere = OsStr::new("/dev/null/none");
    matches!(context.set(c"lowerdir+", nowhere), Err(error) if error.errno != Errno::EINVAL)
}

struct Layers<'a> {
    /// Topmost first, absolute.
    lowers: &'a [PathBuf],
    /// The upper directory and its work directory.
    upper: Option<(&'a Path, &'a Path)>,
}

impl Layers<'_> {
    /// Tells the kernel of one lower after the other: there may be as many as an overlay can have.
    fn mount_each(&self) -> Result<OwnedFd> {
        let context = Context::open(c"overlay")?;
        for lower in self.lowers {
            context.set(c"lowerdir+", lower.as_os_str())?;
        }
        if let Some((upper, work)) = self.upper {
            for (key, path) in [(c"upperdir", upper), (c"workdir", work)] {
                // These two have the escapes of an option text here too, which `lowerdir+` has not.
                context.set(key, OsStr::from_bytes(&escaped(path)))?;
            }
            context.set_flag(c"volatile")?;
        }
        context.set_flag(c"userxattr")?;
        context.mount(Attributes::default())
    }

    /// Tells the kernel of all lowers in one text, as mount(2) does. That call attaches what it mounts, so it
    /// is made in a mount namespace that lasts only until the overlay has been cloned.
    fn mount_all(&self) -> Result<OwnedFd> {
        let base = self.base()?;
        let options = self.options(base)?;
        let place = below(base, &self.lowers[0]);
        process::in_thread(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS)
                .map_err(|errno| Error::new("unshare", "CLONE_NEWNS", errno))?;
            set_propagation(Propagation::Slave)?;
            // Of the thread alone, after unshare(2).
            nix::unistd::chdir(base).map_err(|errno| Error::on("chdir", base, errno))?;
            let options = Some(options.as_c_str());
            nix::mount::mount(
                Some("overlay"),
                place,
                Some("overlay"),
                MsFlags::empty(),
                options,
            )
            .map_err(|errno| Error::on("mount", &self.lowers[0], errno))?;
            // By its name, which leads onto what is mounted there.
            open_tree(working_directory(), place, 0)
        })?
    }

    /// The directory from which the names of the lowers are shortest. Nearly all of a store's are in one.
    fn base(&self) -> Result<&Path> {
        let topmost = self.lowers.first().map_or(Path::new(""), PathBuf::as_path);
        let length = |base: &&Path| -> usize {
            let names = self.lowers.iter().map(|lower| below(base, lower));
            names.map(|name| name.as_os_str().len()).sum()
        };
        let above = topmost.ancestors().skip(1);
        above
            .min_by_key(length)
            .ok_or_else(|| Error::on("mount", topmost, Errno::EINVAL))
    }

    /// The option text of mount(2), where names are looked up from `base` and `,`, `:` and `\` have a meaning.
    fn options(&self, base: &Path) -> Result<CString> {
        let mut text = b"userxattr".to_vec();
        if let Some((upper, work)) = self.upper {
            text.extend_from_slice(b",volatile,upperdir=");
            text.extend(escaped(below(base, upper)));
            text.extend_from_slice(b",workdir=");
            text.extend(escaped(below(base, work)));
        }
        for (index, lower) in self.lowers.iter().enumerate() {
            let before: &[u8] = if index == 0 { b",lowerdir=" } else { b":" };
            text.extend_from_slice(before);
            text.extend(escaped(below(base, lower)));
        }
        if text.len() > LONGEST_OPTIONS {
            let object = format!(
                "overlay of {} layers, which are too many for Linux before 6.7",
                self.lowers.len()
            );
            return Err(Error::new("mount", object, Errno::E2BIG));
        }
        CString::new(text).map_err(|_| Error::on("mount", base, Errno::EINVAL))
    }

    fn have_long_names(&self) -> bool {
        let upper = self.upper.into_iter().flat_map(<[&Path; 2]>::from);
        let mut names = self.lowers.iter().map(PathBuf::as_path).chain(upper);
        names.any(|path| escaped(path).len() > LONGEST_VALUE)
    }
}

/// The name of `path` from `base`, or itself if it is not below it.
fn below<'a>(base: &Path, path: &'a Path) -> &'a Path {
    match path.strip_prefix(base) {
        Ok(name) if !name.as_os_str().is_empty() => name,
        _ => path,
    }
}

/// `path` with a `\` before each character that has a meaning in an option text.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn names_are_short_and_escape_what_the_option_text_gives_a_meaning() {
        /// Lowers, upper and work directory, and what comes of them: base and options.
        type Case<'a> = (&'a [&'a str], Option<[&'a str; 2]>, &'a str, &'a str);
        let cases: &[Case<'_>] = &[
            (
                &["/s/2/diff", "/s/1/diff"],
                Some(["/t/3/upper", "/t/3/work"]),
                "/s",
                "userxattr,volatile,upperdir=/t/3/upper,workdir=/t/3/work,lowerdir=2/diff:1/diff",
            ),
            (
                &["/s/x/2", "/s/x/1", "/s/x"],
                Some(["/s/up", "/s/work"]),
                "/s/x",
                "userxattr,volatile,upperdir=/s/up,workdir=/s/work,lowerdir=2:1:/s/x",
            ),
            (
                &["/a:b", "/c,d\\e"],
                None,
                "/",
                "userxattr,lowerdir=a\\:b:c\\,d\\\\e",
            ),
            (
                &["/s/a/3", "/s/a/2", "/s/a/1", "/s/stub"],
                Some(["/s/up", "/s/a/work"]),
                "/s/a",
                "userxattr,volatile,upperdir=/s/up,workdir=work,lowerdir=3:2:1:/s/stub",
            ),
            (&["/ab/1", "/a/1"], None, "/ab", "userxattr,lowerdir=1:/a/1"),
        ];
        for (lowers, upper, base, options) in cases {
            let lowers: Vec<PathBuf> = lowers.iter().map(PathBuf::from).collect();
            let layers = Layers {
                lowers: &lowers,
                upper: upper.map(|it| (Path::new(it[0]), Path::new(it[1]))),
            };
            assert_eq!(layers.base(), Ok(Path::new(base)));
            let text = layers.options(Path::new(base)).unwrap();
            assert_eq!(text.to_str(), Ok(*options));
        }
        let (lowers, upper) = (&[PathBuf::from("/"), PathBuf::from("/a")], None);
        // What is mounted there has no name.
        assert!(Layers { lowers, upper }.base().is_err());
    }

    #[test]
    fn layers_whose_names_do_not_fit_are_an_error_that_says_so() {
        let count = |count: usize| -> Result<CString> {
            let lowers: Vec<_> = (0..count)
                .map(|index| PathBuf::from(format!("/store/mapped/{index:064}/diff")))
                .collect();
            let upper = Some((Path::new("/store/tmp/1/diff"), Path::new("/store/tmp/1/w")));
            let layers = Layers {
                lowers: &lowers,
                upper,
            };
            layers.options(layers.base()?)
        };
        assert!(count(57).is_ok());
        let error = count(60).unwrap_err().to_string();
        assert!(
            error.contains("60 layers") && error.contains("Linux before 6.7"),
            "{error}"
        );
    }

    /// Runs `work` in a process with user and mount namespaces of its own, where this test starts again;
    /// not at all where unshare(1) is missing.
    fn in_namespaces(test: &str, work: fn(&Path)) {
        const INSIDE: &str = "RBUILD_TEST_INSIDE";
        if let Some(directory) = std::env::var_os(INSIDE) {
            return work(Path::new(&directory));
        }
        let directory = tempfile::tempdir().unwrap();
        let outcome = Command::new("timeout")
            .args(["-k", "5", "60", "unshare", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--nocapture", "--exact", test])
            .env(INSIDE, directory.path())
            .output();
        let Ok(output) = outcome else { return };
        let text =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(127) {
            return;
        }
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "{text}");
    }

    /// So many lowers in `place`, topmost first, and an upper with its work directory. Each lower has a
    /// file of its own, and all have `same`.
    fn layers_in(place: &Path, count: usize) -> (Vec<PathBuf>, PathBuf, PathBuf) {
        let lowers: Vec<_> = (0..count)
            .map(|index| place.join(format!("lowers/{index}/diff")))
            .collect();
        for (index, lower) in lowers.iter().enumerate() {
            fs::create_dir_all(lower).unwrap();
            fs::write(lower.join(format!("own{index}")), "").unwrap();
            fs::write(lower.join("same"), index.to_string()).unwrap();
        }
        let [upper, work] = ["upper", "work"].map(|name| place.join(name));
        for directory in [&upper, &work] {
            fs::create_dir(directory).unwrap();
        }
        (lowers, upper, work)
    }

    /// Looks at the `view` of the layers from [`layers_in`] and changes it.
    fn check(view: &OwnedFd, count: usize, upper: &Path) {
        use nix::fcntl::OFlag;
        use std::io::Read as _;

        let open = |name: &str| crate::sys::fs::open_at(view, OsStr::new(name), OFlag::O_RDONLY, 0);
        for index in 0..count {
            open(&format!("own{index}")).unwrap();
        }
        let mut text = String::new();
        let mut same = fs::File::from(open("same").unwrap());
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "0");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        crate::sys::fs::open_at(view, OsStr::new("new"), flags, 0o644).unwrap();
        nix::unistd::unlinkat(view, "own1", nix::unistd::UnlinkatFlags::NoRemoveDir).unwrap();
        assert_eq!(open("own1").unwrap_err().errno, Errno::ENOENT);
        assert!(upper.join("new").exists());
        // The whiteout, so it was the overlay that removed it.
        assert!(fs::symlink_metadata(upper.join("own1")).is_ok());
    }

    fn mounts() -> String {
        fs::read_to_string("/proc/self/mountinfo").unwrap()
    }

    #[test]
    fn all_lowers_in_one_text_make_an_overlay_that_is_attached_nowhere() {
        const TEST: &str = "sys::mount::overlay::tests::all_lowers_in_one_text_make_an_overlay_that_is_attached_nowhere";
        in_namespaces(TEST, |directory| {
            // What the host mounts would propagate, if it were not kept from it.
            let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
            nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
            let before = (mounts(), std::env::current_dir().unwrap());
            for name in ["plain", "a,b:c\\d"] {
                let (lowers, upper, work) = layers_in(&directory.join(name), 30);
                let layers = Layers {
                    lowers: &lowers,
                    upper: Some((&upper, &work)),
                };
                let view = layers.mount_all().unwrap();
                check(&view, 30, &upper);
                assert_eq!(before, (mounts(), std::env::current_dir().unwrap()));
                // It can be attached, and cloned then.
                let place = directory.join("place");
                fs::create_dir_all(&place).unwrap();
                super::super::attach(&view, fs::File::open(&place).unwrap()).unwrap();
                assert!(place.join("own0").exists());
                crate::sys::mount::clone_open(fs::File::open(&place).unwrap()).unwrap();
                nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
            }
        });
    }

    #[test]
    fn many_threads_can_mount_at_once_and_each_mount_is_gone_with_its_descriptor() {
        const TEST: &str = "sys::mount::overlay::tests::many_threads_can_mount_at_once_and_each_mount_is_gone_with_its_descriptor";
        in_namespaces(TEST, |directory| {
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    scope.spawn(move || {
                        let place = directory.join(thread.to_string());
                        let (lowers, upper, _) = layers_in(&place, 5);
                        for round in 0..5 {
                            let work = place.join(format!("work{round}"));
                            fs::create_dir(&work).unwrap();
                            let layers = Layers {
                                lowers: &lowers,
                                upper: Some((&upper, &work)),
                            };
                            drop(layers.mount_all().unwrap());
                        }
                    });
                }
            });
        });
    }

    #[test]
    fn names_that_need_escapes_or_are_long_make_the_same_overlay() {
        const TEST: &str =
            "sys::mount::overlay::tests::names_that_need_escapes_or_are_long_make_the_same_overlay";
        in_namespaces(TEST, |directory| {
            for name in ["plain", "a,b:c\\d", &format!("{0}/{0}", "long".repeat(50))] {
                let (lowers, upper, work) = layers_in(&directory.join(name), 12);
                let view = overlay(&lowers, Some(&upper), Some(&work));
                check(&view.unwrap(), 12, &upper);
                drop(overlay(&lowers, None, None).unwrap());
            }
        });
    }

    #[test]
    fn what_no_kernel_can_mount_is_an_error() {
        const TEST: &str = "sys::mount::overlay::tests::what_no_kernel_can_mount_is_an_error";
        in_namespaces(TEST, |directory| {
            let (mut lowers, _, _) = layers_in(directory, 3);
            lowers.push(directory.join("missing"));
            let (lowers, upper) = (&lowers[..], None);
            for result in [
                Layers { lowers, upper }.mount_all(),
                overlay(lowers, None, None),
            ] {
                assert_eq!(result.unwrap_err().errno, Errno::ENOENT);
            }
        });
    }
}
