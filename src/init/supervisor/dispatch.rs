//! Which function answers which call.

use caps::Capability;

use super::caller::{Caller, Lookup, Target};
use super::files::{self, id};
use super::{Reply, Supervisor};
use crate::sandbox::emulation::calls::{Call, LimitWidth, Subject};
use nix::errno::Errno;

impl Supervisor {
    pub(super) fn carry_out(&mut self, caller: &Caller<'_>, call: Call) -> nix::Result<Reply> {
        const USER: Capability = Capability::CAP_SETUID;
        const GROUP: Capability = Capability::CAP_SETGID;
        const HERE: i32 = libc::AT_FDCWD;
        const FOLLOW: Lookup = Lookup {
            no_follow: false,
            allows_empty: false,
        };
        const NO_FOLLOW: Lookup = Lookup {
            no_follow: true,
            allows_empty: false,
        };
        let lookup = |flags: i32| Lookup {
            no_follow: flags & libc::AT_SYMLINK_NOFOLLOW != 0,
            allows_empty: flags & libc::AT_EMPTY_PATH != 0,
        };
        match call {
            Call::Stat(layout) | Call::Lstat(layout) => {
                let lookup = if matches!(call, Call::Stat(_)) {
                    FOLLOW
                } else {
                    NO_FOLLOW
                };
                let target = caller.target_at(HERE, caller.address(0), lookup)?;
                self.stat(caller, target.as_ref(), layout, caller.address(1))
            }
            Call::Fstat(layout) => {
                let target = caller.descriptor(caller.int(0));
                self.stat(caller, target.as_ref(), layout, caller.address(1))
            }
            Call::StatAt(layout) => {
                let flags = caller.int(3);
                if flags & !files::STAT_FLAGS != 0 {
                    return Ok(Reply::Continue);
                }
                let target = caller.target_at(caller.int(0), caller.address(1), lookup(flags))?;
                self.stat(caller, target.as_ref(), layout, caller.address(2))
            }
            Call::Statx => self.statx(caller),
            Call::Chown(width) | Call::Lchown(width) => {
                let owner = (id(caller, 1, width), id(caller, 2, width));
                let lookup = if matches!(call, Call::Chown(_)) {
                    FOLLOW
                } else {
                    NO_FOLLOW
                };
                self.chown_path(caller, HERE, caller.address(0), lookup, owner)
            }
            Call::Fchown(width) => {
                let owner = (id(caller, 1, width), id(caller, 2, width));
                self.fchown(caller, owner)
            }
            Call::ChownAt => {
                let owner = (caller.word(2), caller.word(3));
                let flags = caller.int(4);
                if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
                    return Err(Errno::EINVAL);
                }
                let lookup = lookup(flags);
                self.chown_path(caller, caller.int(0), caller.address(1), lookup, owner)
            }
            Call::Open => {
                let (flags, mode) = (caller.int(1), caller.word(2));
                self.open(caller, HERE, caller.address(0), flags, mode)
            }
            Call::OpenAt => {
                let (flags, mode) = (caller.int(2), caller.word(3));
                self.open(caller, caller.int(0), caller.address(1), flags, mode)
            }
            Call::Creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                self.open(caller, HERE, caller.address(0), flags, caller.word(1))
            }
            Call::OpenAt2 => self.open_how(caller),
            Call::Mkdir => self.make_directory(caller, HERE, caller.address(0), caller.word(1)),
            Call::MkdirAt => {
                self.make_directory(caller, caller.int(0), caller.address(1), caller.word(2))
            }
            Call::Symlink => self.make_link(caller, caller.address(0), HERE, caller.address(1)),
            Call::SymlinkAt => {
                self.make_link(caller, caller.address(0), caller.int(1), caller.address(2))
            }
            Call::Mknod => {
                let (mode, device) = (caller.word(1), caller.word(2));
                self.make_node(caller, HERE, caller.address(0), mode, device)
            }
            Call::MknodAt => {
                let (mode, device) = (caller.word(2), caller.word(3));
                self.make_node(caller, caller.int(0), caller.address(1), mode, device)
            }
            Call::Bind => self.bind(caller),
            Call::PeerCredentials => self.peer(caller),
            Call::Execute => self.execute(caller, HERE, caller.address(0), FOLLOW),
            Call::ExecuteAt => {
                let lookup = lookup(caller.int(4));
                self.execute(caller, caller.int(0), caller.address(1), lookup)
            }
            Call::SetUid(width) => {
                self.set_ids(caller, width, USER, |who, [id, ..]| who.set_user(id))
            }
            Call::SetGid(width) => {
                self.set_ids(caller, width, GROUP, |who, [id, ..]| who.set_group(id))
            }
            Call::SetReUid(width) => {
                self.set_ids(caller, width, USER, |who, [real, effective, _]| {
                    who.set_users(real, effective)
                })
            }
            Call::SetReGid(width) => {
                self.set_ids(caller, width, GROUP, |who, [real, effective, _]| {
                    who.set_both_groups(real, effective)
                })
            }
            Call::SetResUid(width) => {
                self.set_ids(caller, width, USER, |who, [real, effective, saved]| {
                    who.set_all_users(real, effective, saved)
                })
            }
            Call::SetResGid(width) => {
                self.set_ids(caller, width, GROUP, |who, [real, effective, saved]| {
                    who.set_all_groups(real, effective, saved)
                })
            }
            Call::SetFsUid(width) => {
                let id = id(caller, 0, width);
                self.change_with(caller, USER, |who| Ok(who.set_file_user(id).into()))
            }
            Call::SetFsGid(width) => {
                let id = id(caller, 0, width);
                self.change_with(caller, GROUP, |who| Ok(who.set_file_group(id).into()))
            }
            Call::SetGroups(width) => self.set_groups(caller, width),
            Call::GetUid(width) => self.get_id(caller, width, |who| who.user.real),
            Call::GetEUid(width) => self.get_id(caller, width, |who| who.user.effective),
            Call::GetGid(width) => self.get_id(caller, width, |who| who.group.real),
            Call::GetEGid(width) => self.get_id(caller, width, |who| who.group.effective),
            Call::GetResUid(width) => self.get_all(caller, width, |who| who.user),
            Call::GetResGid(width) => self.get_all(caller, width, |who| who.group),
            Call::GetGroups(width) => self.get_groups(caller, width),
            Call::Prctl => self.prctl(caller),
            Call::SetLimit => Ok(Reply::Value(0)),
            Call::GetLimit(width) => self.get_limit(caller, caller.address(1), width),
            Call::Prlimit => {
                let width = LimitWidth::Eight;
                self.get_limit(caller, caller.address(3), width)
            }
            Call::GetAttribute(_) => Self::get_attribute(caller),
            Call::SetAttribute(subject) | Call::RemoveAttribute(subject) => {
                self.hold_subject(caller, subject)?;
                self.change_attribute(caller)
            }
            Call::ListAttributes(subject) => Self::list_attributes(caller, subject),
            Call::Chroot => {
                if !self.credentials(caller)?.is_capable() {
                    return Err(Errno::EPERM);
                }
                self.has_chroots = true;
                Ok(Reply::Continue)
            }
            Call::ChangeMounts => {
                self.has_chroots = true;
                Ok(Reply::Continue)
            }
            Call::Rename | Call::Link => self.hold(caller, HERE, caller.address(0), NO_FOLLOW),
            Call::RenameAt => self.hold(caller, caller.int(0), caller.address(1), NO_FOLLOW),
            Call::RenameAt2 => {
                if caller.word(4) & libc::RENAME_EXCHANGE != 0 {
                    self.hold(caller, caller.int(2), caller.address(3), NO_FOLLOW)?;
                }
                self.hold(caller, caller.int(0), caller.address(1), NO_FOLLOW)
            }
            Call::LinkAt => {
                let lookup = Lookup {
                    no_follow: caller.int(4) & libc::AT_SYMLINK_FOLLOW == 0,
                    allows_empty: false,
                };
                self.hold(caller, caller.int(0), caller.address(1), lookup)
            }
            Call::SetTimes => self.hold(caller, HERE, caller.address(0), FOLLOW),
            Call::SetTimesAt if caller.address(1) == 0 => {
                self.hold_target(caller.descriptor(caller.int(0)));
                Ok(Reply::Continue)
            }
            Call::SetTimesAt => {
                let lookup = lookup(caller.int(3));
                self.hold(caller, caller.int(0), caller.address(1), lookup)
            }
            Call::Chmod => {
                let target = caller.target_at(HERE, caller.address(0), FOLLOW)?;
                self.chmod(caller, target, caller.word(1))
            }
            Call::Fchmod => {
                let target = caller.descriptor(caller.int(0));
                self.chmod(caller, target, caller.word(1))
            }
            Call::ChmodAt => {
                let target = caller.target_at(caller.int(0), caller.address(1), FOLLOW)?;
                self.chmod(caller, target, caller.word(2))
            }
            Call::ChmodAt2 => {
                let lookup = lookup(caller.int(3));
                let target = caller.target_at(caller.int(0), caller.address(1), lookup)?;
                self.chmod(caller, target, caller.word(2))
            }
        }
    }

    /// Keeps the record of a special file that the kernel is about to copy up.
    fn hold(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        lookup: Lookup,
    ) -> nix::Result<Reply> {
        self.hold_target(caller.target_at(directory, address, lookup).ok().flatten());
        Ok(Reply::Continue)
    }

    fn hold_target(&mut self, target: Option<Target>) {
        if let Some(target) = target {
            // What goes wrong here goes wrong in the kernel too, which says so.
            let _refused = self.records.hold(&target).is_err();
        }
    }

    fn hold_subject(&mut self, caller: &Caller<'_>, subject: Subject) -> nix::Result<Reply> {
        let lookup = Lookup {
            no_follow: subject == Subject::Link,
            allows_empty: false,
        };
        match subject {
            Subject::Descriptor => {
                self.hold_target(caller.descriptor(caller.int(0)));
                Ok(Reply::Continue)
            }
            Subject::Path | Subject::Link => {
                self.hold(caller, libc::AT_FDCWD, caller.address(0), lookup)
            }
        }
    }
}
