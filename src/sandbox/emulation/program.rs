//! The filter that traps the calls, as BPF (`Documentation/userspace-api/seccomp_filter.rst`).
//!
//! Whether a call is allowed without a look at its arguments, the kernel computes once for each number;
//! the length of the program costs only the calls that are trapped.

use super::calls::{self, Machine, Trap, When};

/// Codes of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Verdicts of linux/seccomp.h.
const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const REFUSE: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// Offsets in `struct seccomp_data`; of an argument the lower half.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The first number of the x32 calls.
const X32: u32 = 0x4000_0000;

/// The program, in the words that [`crate::sys::notify::install`] takes. With `specials` it traps also
/// what gives a symbolic link, FIFO or socket of a lower layer another inode.
pub(crate) fn program(specials: bool) -> Vec<u64> {
    program_of(&calls::NATIVE, specials)
}

pub(in crate::sandbox) fn program_of(machine: &Machine, specials: bool) -> Vec<u64> {
    let (arch, _) = machine.native;
    let native = native(machine, specials);
    let length = u32::try_from(native.len()).expect("programs have fewer than 4096 words");
    let mut program = vec![
        word(LOAD, 0, 0, ARCH),
        word(JUMP_EQUAL, 1, 0, arch),
        word(JUMP, 0, 0, length),
    ];
    program.extend(native);
    program.extend(foreign(machine, specials));
    program
}

fn native(machine: &Machine, specials: bool) -> Vec<u64> {
    let mut section = vec![word(LOAD, 0, 0, NUMBER)];
    if machine.has_x32 {
        section.extend([word(JUMP_AT_LEAST, 0, 1, X32), word(RETURN, 0, 0, REFUSE)]);
    }
    section.extend(traps(machine.native.1, specials));
    section
}

fn foreign(machine: &Machine, specials: bool) -> Vec<u64> {
    let Some((arch, compat)) = machine.compat else {
        return vec![word(RETURN, 0, 0, REFUSE)];
    };
    let mut section = vec![
        word(JUMP_EQUAL, 1, 0, arch),
        word(RETURN, 0, 0, ALLOW),
        word(LOAD, 0, 0, NUMBER),
    ];
    section.extend(traps(compat, specials));
    section
}

/// Compares the number that is loaded with those of the traps; allows the others.
fn traps(traps: &[Trap], specials: bool) -> Vec<u64> {
    let mut section = Vec::new();
    for trap in traps {
        let Some(verdict) = verdict(trap.when, specials) else {
            continue;
        };
        let number = u32::try_from(trap.number).expect("numbers are small");
        section.push(unless_equal(number, &verdict));
        section.extend(verdict);
    }
    for number in calls::REFUSED {
        let verdict = [word(RETURN, 0, 0, REFUSE)];
        section.push(unless_equal(*number, &verdict));
        section.extend(verdict);
    }
    section.push(word(RETURN, 0, 0, ALLOW));
    section
}

/// Jumps over `rest` unless the loaded word is `value`.
fn unless_equal(value: u32, rest: &[u64]) -> u64 {
    let length = u8::try_from(rest.len()).expect("a verdict is a few words long");
    word(JUMP_EQUAL, 0, length, value)
}

/// What happens to a call; `None` when it need not be looked at.
fn verdict(when: When, specials: bool) -> Option<Vec<u64>> {
    let notify = word(RETURN, 0, 0, NOTIFY);
    let allow = word(RETURN, 0, 0, ALLOW);
    let load = |argument: u8| word(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(argument));
    let on_bits = |argument, bits| vec![load(argument), word(JUMP_SET, 0, 1, bits), notify, allow];
    let on_values = |argument, values: &[u32]| {
        let mut words = vec![load(argument)];
        for value in values {
            words.extend([word(JUMP_EQUAL, 0, 1, *value), notify]);
        }
        words.push(allow);
        words
    };
    Some(match when {
        When::Always => vec![notify],
        When::Specials | When::SpecialsOrBits { .. } if specials => vec![notify],
        When::Specials => return None,
        When::SpecialsOrBits { argument, bits } => on_bits(argument, bits),
        When::Bits { argument, bits } => on_bits(argument, bits),
        When::Both { one, other } => {
            let mut words = vec![load(one.0), word(JUMP_EQUAL, 1, 0, one.1), allow];
            words.extend(on_values(other.0, other.1));
            words
        }
        When::Equals { argument, values } => on_values(argument, values),
    })
}

fn word(code: u16, jump_true: u8, jump_false: u8, k: u32) -> u64 {
    let [c1, c0] = code.to_be_bytes();
    let [k3, k2, k1, k0] = k.to_be_bytes();
    u64::from_be_bytes([c1, c0, jump_true, jump_false, k3, k2, k1, k0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::interpreter;

    fn judge(program: &[u64], arch: u32, number: u32, arguments: [u32; 6]) -> u32 {
        let call = interpreter::Call {
            arch,
            number,
            arguments: arguments.map(u64::from),
        };
        interpreter::run(program, &call)
    }

    fn native_call(number: i64, arguments: [u32; 6]) -> u32 {
        let number = u32::try_from(number).unwrap();
        judge(&program(false), calls::NATIVE.native.0, number, arguments)
    }

    #[test]
    fn only_opens_that_create_are_trapped() {
        let open = |flags| native_call(libc::SYS_openat, [0, 0, flags, 0, 0, 0]);
        let flags = |flags: i32| flags.cast_unsigned();
        assert_eq!(open(0), ALLOW);
        assert_eq!(open(flags(libc::O_RDWR | libc::O_TRUNC)), ALLOW);
        assert_eq!(open(flags(libc::O_WRONLY | libc::O_CREAT)), NOTIFY);
        assert_eq!(open(flags(libc::O_TMPFILE | libc::O_RDWR)), NOTIFY);
        assert_eq!(open(flags(libc::O_DIRECTORY)), ALLOW);
    }

    fn every_trap(machine: &Machine) -> impl Iterator<Item = (u32, &'static Trap)> {
        let kinds = std::iter::once(machine.native).chain(machine.compat);
        kinds.flat_map(|(arch, traps)| traps.iter().map(move |trap| (arch, trap)))
    }

    #[test]
    fn every_trapped_call_reaches_its_verdict() {
        for machine in [&calls::AARCH64, &calls::NATIVE] {
            let program = program_of(machine, true);
            for (arch, trap) in every_trap(machine) {
                let mut arguments = [0; 6];
                match trap.when {
                    When::Bits { argument, bits } => arguments[usize::from(argument)] = bits,
                    When::Equals { argument, values } => {
                        arguments[usize::from(argument)] = values[0];
                    }
                    When::Both { one, other } => {
                        arguments[usize::from(one.0)] = one.1;
                        arguments[usize::from(other.0)] = other.1[0];
                    }
                    When::Always | When::Specials | When::SpecialsOrBits { .. } => {}
                }
                let number = u32::try_from(trap.number).unwrap();
                let verdict = judge(&program, arch, number, arguments);
                assert_eq!(verdict, NOTIFY, "{trap:?}");
            }
        }
    }

    #[test]
    fn of_socket_options_only_the_peer_is_trapped() {
        let get = |level, name| native_call(libc::SYS_getsockopt, [3, level, name, 0, 0, 0]);
        assert_eq!(get(1, 17), NOTIFY);
        assert_eq!(get(1, 59), NOTIFY);
        assert_eq!(get(1, 4), ALLOW);
        assert_eq!(get(6, 17), ALLOW);
    }

    #[test]
    fn without_special_files_below_renames_are_the_kernels() {
        assert_eq!(native_call(libc::SYS_renameat2, [0; 6]), ALLOW);
        assert_eq!(native_call(libc::SYS_utimensat, [0; 6]), ALLOW);
        let chmod = |mode| native_call(libc::SYS_fchmodat, [0, 0, mode, 0, 0, 0]);
        assert_eq!(chmod(0o755), ALLOW);
        assert_eq!(chmod(0o2755), NOTIFY);
    }

    #[test]
    fn ways_around_the_filter_do_not_exist() {
        assert_eq!(native_call(425, [0; 6]), REFUSE);
        assert_eq!(native_call(464, [0; 6]), REFUSE);
        #[cfg(target_arch = "x86_64")]
        {
            let number = X32 | u32::try_from(libc::SYS_chown).unwrap();
            let verdict = judge(&program(false), calls::NATIVE.native.0, number, [0; 6]);
            assert_eq!(verdict, REFUSE);
        }
    }

    #[test]
    fn other_calls_pass() {
        for number in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_clone,
            libc::SYS_getppid,
        ] {
            assert_eq!(native_call(number, [0; 6]), ALLOW);
        }
        assert!(program(true).len() < 4096);
    }
}
