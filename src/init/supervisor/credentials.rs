//! Who a process of the sandbox believes to be: the rules of credentials(7) and capabilities(7).

use nix::errno::Errno;

use crate::sandbox::passwd::Identity;

/// The ids and groups of a process, and whether it may do what root may.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    pub(super) user: Ids,
    pub(super) group: Ids,
    pub(super) groups: Vec<u32>,
    /// Its permitted and effective capabilities, which come and go as a whole.
    permitted: bool,
    effective: bool,
    /// Those of the effective ones that setfsuid(2) takes and gives: on files.
    on_files: bool,
    /// PR_SET_KEEPCAPS.
    keeps: bool,
    /// SECBIT_NO_SETUID_FIXUP.
    is_unfixed: bool,
    /// While a call is judged: capset(2) or the bounding set took what it needs from the process.
    lacks: bool,
}

/// Real, effective, saved and file system id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) file: u32,
}

/// The argument that leaves an id as it is.
pub(super) const UNCHANGED: u32 = u32::MAX;

impl Ids {
    fn all(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
            file: id,
        }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2) and setgid(2).
    fn set(&mut self, id: u32, capable: bool) -> nix::Result<()> {
        if id == UNCHANGED {
            return Err(Errno::EINVAL);
        }
        if capable {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            self.effective = id;
            self.file = id;
        } else {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// setreuid(2) and setregid(2).
    fn set_both(&mut self, real: u32, effective: u32, capable: bool) -> nix::Result<()> {
        let old = *self;
        if real != UNCHANGED {
            if !capable && real != old.real && real != old.effective {
                return Err(Errno::EPERM);
            }
            self.real = real;
        }
        if effective != UNCHANGED {
            if !capable && !old.has(effective) {
                *self = old;
                return Err(Errno::EPERM);
            }
            self.effective = effective;
        }
        if real != UNCHANGED || (effective != UNCHANGED && effective != old.real) {
            self.saved = self.effective;
        }
        self.file = self.effective;
        Ok(())
    }

    /// setresuid(2) and setresgid(2).
    fn set_all(&mut self, real: u32, effective: u32, saved: u32, capable: bool) -> nix::Result<()> {
        let old = *self;
        for id in [real, effective, saved] {
            if id != UNCHANGED && !capable && !old.has(id) {
                return Err(Errno::EPERM);
            }
        }
        let choose = |id: u32, old: u32| if id == UNCHANGED { old } else { id };
        self.real = choose(real, old.real);
        self.effective = choose(effective, old.effective);
        self.saved = choose(saved, old.saved);
        self.file = self.effective;
        Ok(())
    }

    /// setfsuid(2) and setfsgid(2), which never fail; the id before.
    fn set_file(&mut self, id: u32, capable: bool) -> u32 {
        let old = self.file;
        if id != UNCHANGED && (capable || self.has(id) || id == old) {
            self.file = id;
        }
        old
    }
}

impl Credentials {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            user: Ids::all(identity.uid),
            group: Ids::all(identity.gid),
            groups: sorted(identity.groups.clone()),
            permitted: identity.uid == 0,
            effective: identity.uid == 0,
            on_files: identity.uid == 0,
            keeps: false,
            is_unfixed: false,
            lacks: false,
        }
    }

    /// Whether it has root's capabilities. One that kept them over a change of its user raises them with
    /// capset(2) when it needs them, which nobody sees.
    pub(super) fn is_capable(&self) -> bool {
        !self.lacks && (self.effective || (self.permitted && (self.keeps || self.is_unfixed)))
    }

    /// [`Credentials::is_capable`] for what is done to files.
    pub(super) fn is_capable_on_files(&self) -> bool {
        self.is_capable() && (self.on_files || !self.effective)
    }

    pub(super) fn set_lacks(&mut self, lacks: bool) {
        self.lacks = lacks;
    }

    pub(super) fn is_in_group(&self, gid: u32) -> bool {
        self.group.file == gid || self.groups.contains(&gid)
    }

    pub(super) fn set_user(&mut self, id: u32) -> nix::Result<()> {
        self.change_user(|user, capable| user.set(id, capable))
    }

    pub(super) fn set_users(&mut self, real: u32, effective: u32) -> nix::Result<()> {
        self.change_user(|user, capable| user.set_both(real, effective, capable))
    }

    pub(super) fn set_all_users(
        &mut self,
        real: u32,
        effective: u32,
        saved: u32,
    ) -> nix::Result<()> {
        self.change_user(|user, capable| user.set_all(real, effective, saved, capable))
    }

    pub(super) fn set_file_user(&mut self, id: u32) -> u32 {
        let capable = self.is_capable();
        let old = self.user.set_file(id, capable);
        // capabilities(7): the change of the file system id to and from 0.
        if !self.is_unfixed && (old == 0) != (self.user.file == 0) {
            self.on_files = old != 0 && self.permitted;
        }
        old
    }

    pub(super) fn set_group(&mut self, id: u32) -> nix::Result<()> {
        let capable = self.is_capable();
        self.group.set(id, capable)
    }

    pub(super) fn set_both_groups(&mut self, real: u32, effective: u32) -> nix::Result<()> {
        let capable = self.is_capable();
        self.group.set_both(real, effective, capable)
    }

    pub(super) fn set_all_groups(
        &mut self,
        real: u32,
        effective: u32,
        saved: u32,
    ) -> nix::Result<()> {
        let capable = self.is_capable();
        self.group.set_all(real, effective, saved, capable)
    }

    pub(super) fn set_file_group(&mut self, id: u32) -> u32 {
        let capable = self.is_capable();
        self.group.set_file(id, capable)
    }

    /// setgroups(2).
    pub(super) fn set_groups(&mut self, groups: Vec<u32>) -> nix::Result<()> {
        if !self.is_capable() {
            return Err(Errno::EPERM);
        }
        if groups.contains(&UNCHANGED) {
            return Err(Errno::EINVAL);
        }
        self.groups = sorted(groups);
        Ok(())
    }

    pub(super) fn set_keeps(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    pub(super) fn set_unfixed(&mut self, is_unfixed: bool) {
        self.is_unfixed = is_unfixed;
    }

    /// What execve(2) does, of a file with these set-id bits' owners.
    pub(super) fn execute(&mut self, set_user: Option<u32>, set_group: Option<u32>) {
        if let Some(uid) = set_user {
            self.user.effective = uid;
        }
        if let Some(gid) = set_group {
            self.group.effective = gid;
        }
        for ids in [&mut self.user, &mut self.group] {
            ids.saved = ids.effective;
            ids.file = ids.effective;
        }
        self.permitted = self.user.real == 0 || self.user.effective == 0;
        self.effective = self.user.effective == 0;
        self.on_files = self.effective;
        self.keeps = false;
    }

    fn change_user(
        &mut self,
        change: impl FnOnce(&mut Ids, bool) -> nix::Result<()>,
    ) -> nix::Result<()> {
        let old = self.user;
        let capable = self.is_capable();
        change(&mut self.user, capable)?;
        if self.is_unfixed {
            return Ok(());
        }
        // capabilities(7), "Effect of user ID changes on capabilities".
        if old.has(0) && !self.user.has(0) && !self.keeps {
            self.permitted = false;
        }
        if old.effective == 0 && self.user.effective != 0 {
            self.effective = false;
        }
        if old.effective != 0 && self.user.effective == 0 {
            self.effective = self.permitted;
        }
        self.effective &= self.permitted;
        self.on_files = self.effective;
        Ok(())
    }
}

/// As the kernel keeps groups, and getgroups(2) shows them.
fn sorted(mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Credentials {
        Credentials::of(&Identity {
            uid,
            gid: uid,
            groups: vec![uid],
            home: None,
        })
    }

    #[test]
    fn root_that_becomes_a_user_is_one_for_good() {
        let mut process = user(0);
        process.set_groups(vec![33]).unwrap();
        process.set_group(33).unwrap();
        process.set_user(33).unwrap();
        assert!(!process.is_capable());
        assert_eq!(process.set_user(0), Err(Errno::EPERM));
        assert_eq!(process.set_groups(vec![0]), Err(Errno::EPERM));
        assert_eq!(process.set_group(0), Err(Errno::EPERM));
        assert_eq!(process.user, Ids::all(33));
    }

    #[test]
    fn an_effective_user_can_be_changed_back() {
        let mut process = user(0);
        process.set_all_users(UNCHANGED, 100, UNCHANGED).unwrap();
        assert!(!process.is_capable());
        assert_eq!(process.user.file, 100);
        process.set_all_users(UNCHANGED, 0, UNCHANGED).unwrap();
        assert!(process.is_capable());
    }

    #[test]
    fn capabilities_can_be_kept_over_a_change_of_the_user() {
        let mut process = user(0);
        process.set_keeps(true);
        process.set_all_users(5, 5, 5).unwrap();
        assert!(process.is_capable());
        process.set_all_groups(6, 6, 6).unwrap();
        process.execute(None, None);
        assert!(!process.is_capable());
    }

    #[test]
    fn a_set_user_id_program_gives_its_owner() {
        let mut process = user(1000);
        process.execute(Some(0), None);
        assert!(process.is_capable());
        assert_eq!((process.user.real, process.user.effective), (1000, 0));
        process.set_user(0).unwrap();
        assert_eq!(process.user, Ids::all(0));
        let mut process = user(1000);
        process.execute(None, Some(42));
        assert_eq!((process.group.real, process.group.saved), (1000, 42));
        assert!(!process.is_capable());
    }

    #[test]
    fn set_reuid_swaps_and_saves() {
        let mut process = user(1000);
        process.user.effective = 33;
        process.user.saved = 33;
        process.set_users(33, 1000).unwrap();
        assert_eq!(
            process.user,
            Ids {
                real: 33,
                effective: 1000,
                saved: 1000,
                file: 1000
            }
        );
        assert_eq!(process.set_users(UNCHANGED, 0), Err(Errno::EPERM));
        assert_eq!(process.user.effective, 1000);
    }

    #[test]
    fn groups_are_shown_in_order() {
        let mut process = user(0);
        process.set_groups(vec![44, 3, 7, 3]).unwrap();
        assert_eq!(process.groups, [3, 3, 7, 44]);
        assert_eq!(process.set_groups(vec![1, UNCHANGED]), Err(Errno::EINVAL));
    }

    #[test]
    fn a_file_system_id_takes_capabilities_on_files_only() {
        let mut process = user(0);
        process.set_file_user(5);
        assert!(process.is_capable() && !process.is_capable_on_files());
        process.set_file_user(0);
        assert!(process.is_capable_on_files());
    }

    #[test]
    fn the_file_system_id_changes_only_to_what_one_is() {
        let mut process = user(1000);
        assert_eq!(process.set_file_user(5), 1000);
        assert_eq!(process.user.file, 1000);
        let mut root = user(0);
        assert_eq!(root.set_file_user(5), 0);
        assert_eq!(root.set_file_user(UNCHANGED), 5);
    }
}
