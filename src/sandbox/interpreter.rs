//! What the kernel makes of seccomp filters, for the tests: classic BPF
//! (`Documentation/networking/filter.rst`) with the instructions that the filters here are made of.

/// `struct seccomp_data` without the address of the caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
}

impl Call {
    /// The word at `offset` of the structure, on a little-endian machine.
    fn word(&self, offset: u32) -> u32 {
        assert!(
            offset.is_multiple_of(4),
            "the kernel refuses such a program"
        );
        let argument = || {
            let at = offset.checked_sub(16).expect("the address of the caller");
            let [a, b, c, d, e, f, g, h] = self.arguments[at as usize / 8].to_le_bytes();
            let is_lower = at.is_multiple_of(8);
            u32::from_le_bytes(if is_lower { [a, b, c, d] } else { [e, f, g, h] })
        };
        match offset {
            0 => self.number,
            4 => self.arch,
            _ => argument(),
        }
    }
}

/// What the kernel does with a call on which several filters say something (seccomp(2)): the strictest
/// of the actions, and among equals what the program says that was installed last.
pub(crate) fn judge(programs: &[Vec<u64>], call: &Call) -> u32 {
    // SECCOMP_RET_ACTION_FULL of linux/seccomp.h, compared with its sign: to kill is less than all else.
    let action = |verdict: &u32| (verdict & 0xffff_0000).cast_signed();
    let verdicts = programs.iter().rev().map(|program| run(program, call));
    verdicts.min_by_key(action).expect("a filter at least")
}

/// The verdict of one program.
pub(crate) fn run(program: &[u64], call: &Call) -> u32 {
    let (mut at, mut loaded) = (0, 0);
    loop {
        let [c1, c0, jump_true, jump_false, k3, k2, k1, k0] = program[at].to_be_bytes();
        let k = u32::from_be_bytes([k3, k2, k1, k0]);
        at += 1;
        let jump = |taken: bool| usize::from(if taken { jump_true } else { jump_false });
        // Codes of linux/bpf_common.h.
        match u16::from_be_bytes([c1, c0]) {
            0x20 => loaded = call.word(k),
            0x54 => loaded &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(loaded == k),
            0x25 => at += jump(loaded > k),
            0x35 => at += jump(loaded >= k),
            0x45 => at += jump(loaded & k != 0),
            0x06 => return k,
            other => panic!("code {other:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call = Call {
        arch: 3,
        number: 7,
        arguments: [0x1_0000_0002, 0, 0, 0, 0, u64::MAX],
    };

    fn word(code: u16, jumps: [u8; 2], k: u32) -> u64 {
        u64::from(code) << 48 | u64::from(jumps[0]) << 40 | u64::from(jumps[1]) << 32 | u64::from(k)
    }

    #[test]
    fn words_of_a_call_are_where_the_kernel_puts_them() {
        let at = |offset| CALL.word(offset);
        assert_eq!([at(0), at(4), at(16), at(20), at(24)], [7, 3, 2, 1, 0]);
        assert_eq!([at(56), at(60)], [u32::MAX; 2]);
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        for (code, k, is_taken) in [
            (0x15, 7, true),
            (0x15, 6, false),
            (0x25, 6, true),
            (0x25, 7, false),
            (0x35, 7, true),
            (0x35, 8, false),
            (0x45, 4, true),
            (0x45, 8, false),
        ] {
            let program = [
                word(0x20, [0; 2], 0),
                word(code, [1, 0], k),
                word(0x06, [0; 2], 10),
                word(0x05, [0; 2], 1),
                word(0x06, [0; 2], 20),
                word(0x06, [0; 2], 30),
            ];
            let expected = if is_taken { 30 } else { 10 };
            assert_eq!(run(&program, &CALL), expected, "{code:#x} {k}");
        }
        let masked = [
            word(0x20, [0; 2], 0),
            word(0x54, [0; 2], 6),
            word(0x15, [0, 1], 6),
            word(0x06, [0; 2], 1),
            word(0x06, [0; 2], 2),
        ];
        assert_eq!(run(&masked, &CALL), 1);
    }

    #[test]
    fn the_strictest_verdict_counts_and_of_equals_the_last() {
        // SECCOMP_RET_ALLOW, _USER_NOTIF, two of _ERRNO, _KILL_PROCESS.
        let [allow, notify, one, other, kill] =
            [0x7fff_0000, 0x7fc0_0000, 0x5_0001, 0x5_0026, 0x8000_0000];
        for (verdicts, expected) in [
            (vec![allow, allow], allow),
            (vec![allow, notify], notify),
            (vec![one, notify], one),
            (vec![one, other], other),
            (vec![other, one, allow], one),
            (vec![one, kill, allow], kill),
        ] {
            let programs: Vec<_> = verdicts
                .iter()
                .map(|k| vec![word(0x06, [0; 2], *k)])
                .collect();
            assert_eq!(judge(&programs, &CALL), expected, "{verdicts:x?}");
        }
    }
}
