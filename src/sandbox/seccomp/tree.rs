//! Filters that find a call's number in few comparisons.
//!
//! seccompiler compares the number with one after the other. The kernel goes through a filter for every
//! number there is when the filter is installed (seccomp_cache_prepare in kernel/seccomp.c), and through all
//! that is not a plain permission again at every call, so the length of that way is what a filter costs.
//! Numbers next to each other with one answer become a range, and the ranges a binary search.

use seccompiler::{BpfProgram, sock_filter};

/// Codes of linux/bpf_common.h.
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const JUMP_EQUAL: u16 = 0x15;
const LOAD: u16 = 0x20;
const JUMP_AT_LEAST: u16 = 0x35;

/// Where the number is in `struct seccomp_data`.
const NUMBER: u32 = 0;

/// The instructions before the first number: the architecture is loaded, compared, refused; the number is
/// loaded.
const HEAD: usize = 4;

/// The numbers from `first` on are answered by `answer`, which ends in every way it can be gone through.
struct Range {
    first: u32,
    answer: Vec<sock_filter>,
}

/// The same filter with a search in place of the comparisons; `None` where `program` is not as seccompiler
/// makes them for one architecture, with the numbers in their order.
pub(super) fn search(program: &[sock_filter]) -> Option<BpfProgram> {
    let (head, mut rest) = program.split_at_checked(HEAD)?;
    let load = head.last()?;
    if (load.code, load.k) != (LOAD, NUMBER) {
        return None;
    }
    let mut numbers = Vec::new();
    // Each number: a comparison that skips the way in, the way in, the way past, which goes from rule to rule.
    while let [comparison, _, past, ..] = rest
        && (comparison.code, comparison.jt, comparison.jf) == (JUMP_EQUAL, 0, 1)
        && past.code == JUMP
    {
        let (own, next) = rest.split_at_checked(landing(rest, 2)?)?;
        numbers.push((comparison.k, simplified(&own[1..])));
        rest = next;
    }
    let [mismatch] = rest else { return None };
    let ranges = ranges(&numbers, mismatch)?;
    let mut program = head.to_vec();
    program.extend(tree(&ranges)?);
    Some(program)
}

/// Where the jumps from the instruction `at` on lead.
fn landing(program: &[sock_filter], mut at: usize) -> Option<usize> {
    loop {
        match program.get(at)? {
            jump if jump.code == JUMP => at = at.checked_add(1 + jump.k as usize)?,
            _ => return Some(at),
        }
    }
}

/// An answer that looks at nothing is the verdict alone.
fn simplified(answer: &[sock_filter]) -> Vec<sock_filter> {
    match landing(answer, 0).map(|at| &answer[at]) {
        Some(verdict) if verdict.code == RETURN => vec![verdict.clone()],
        _ => answer.to_vec(),
    }
}

fn ranges(numbers: &[(u32, Vec<sock_filter>)], mismatch: &sock_filter) -> Option<Vec<Range>> {
    let mismatch = vec![mismatch.clone()];
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |first, answer: &Vec<sock_filter>| match ranges.last() {
        Some(last) if last.answer == *answer => {}
        _ => ranges.push(Range {
            first,
            answer: answer.clone(),
        }),
    };
    let mut next = 0;
    for (number, answer) in numbers {
        if *number < next {
            return None;
        }
        if *number > next {
            add(next, &mismatch);
        }
        add(*number, answer);
        next = number.checked_add(1)?;
    }
    add(next, &mismatch);
    Some(ranges)
}

fn tree(ranges: &[Range]) -> Option<BpfProgram> {
    if let [only] = ranges {
        return Some(only.answer.clone());
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let first = high.first()?.first;
    let (low, high) = (tree(low)?, tree(high)?);
    let at_least = |jt, jf| sock_filter {
        code: JUMP_AT_LEAST,
        jt,
        jf,
        k: first,
    };
    // Only a jump without a condition goes further than 255 instructions.
    let mut program = match u8::try_from(low.len()) {
        Ok(length) => vec![at_least(length, 0)],
        Err(_) => vec![
            at_least(0, 1),
            sock_filter {
                code: JUMP,
                jt: 0,
                jf: 0,
                k: u32::try_from(low.len()).ok()?,
            },
        ],
    };
    program.extend(low);
    program.extend(high);
    Some(program)
}

#[cfg(test)]
mod tests {
    use super::super::{NAMES, i386, of_list};
    use super::*;
    use seccompiler::TargetArch;

    const LISTS: [(&str, TargetArch); 2] = [
        (
            include_str!("../../../seccomp/x86_64.json"),
            TargetArch::x86_64,
        ),
        (
            include_str!("../../../seccomp/aarch64.json"),
            TargetArch::aarch64,
        ),
    ];

    const KILL: u32 = 0x8000_0000;

    /// What the program answers to a call, and how many instructions that takes.
    fn judge(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
        let load = |offset: u32| match offset {
            0 => number,
            4 => arch,
            _ => {
                let word = (offset - 16) / 4;
                let argument = arguments[(word / 2) as usize];
                let half = argument >> (32 * (word % 2)) & 0xffff_ffff;
                u32::try_from(half).unwrap()
            }
        };
        let (mut at, mut accumulator, mut steps) = (0, 0_u32, 0);
        loop {
            let instruction = &program[at];
            steps += 1;
            at += 1;
            let jump = |is: bool| usize::from(if is { instruction.jt } else { instruction.jf });
            match instruction.code {
                0x20 => accumulator = load(instruction.k),
                0x54 => accumulator &= instruction.k,
                0x05 => at += instruction.k as usize,
                0x06 => return (instruction.k, steps),
                0x15 => at += jump(accumulator == instruction.k),
                0x25 => at += jump(accumulator > instruction.k),
                0x35 => at += jump(accumulator >= instruction.k),
                0x45 => at += jump(accumulator & instruction.k != 0),
                code => panic!("{code:#x}"),
            }
        }
    }

    /// Every number that is looked at, those around it, and some far away.
    fn numbers() -> impl Iterator<Item = u32> {
        let far = [0x3fff_ffff, 0x4000_0000, 0x4000_0208, 0x7fff_ffff, u32::MAX];
        (0..1500).chain(far)
    }

    /// Every value that a condition compares with, bits alone and together, in every place.
    fn arguments(program: &[sock_filter]) -> Vec<[u64; 6]> {
        let mut values: Vec<u64> = program
            .iter()
            .filter(|instruction| instruction.code != RETURN && instruction.code != JUMP)
            .flat_map(|instruction| [instruction.k, !instruction.k, instruction.k.wrapping_add(1)])
            .map(u64::from)
            .collect();
        values.extend([0, 1, 2, u64::MAX, 1 << 32]);
        values.sort_unstable();
        values.dedup();
        let several = values.iter().map(|value| [*value; 6]);
        let one = values.iter().flat_map(|value| {
            (0..6).map(move |index| {
                let mut arguments = [0; 6];
                arguments[index] = *value;
                arguments
            })
        });
        several.chain(one).collect()
    }

    #[test]
    fn a_search_answers_as_the_comparisons_do() {
        let programs = [
            NAMES.map(|name| (name, of_list(name, LISTS[0].0, LISTS[0].1).unwrap())),
            NAMES.map(|name| (name, of_list(name, LISTS[1].0, LISTS[1].1).unwrap())),
            NAMES.map(|name| (name, i386::compile(name).unwrap())),
        ];
        for (name, linear) in programs.into_iter().flatten() {
            let found = search(&linear).unwrap();
            let own = linear[1].k;
            for number in numbers() {
                let (expected, _) = judge(&linear, own, number, [0; 6]);
                let (verdict, steps) = judge(&found, own, number, [0; 6]);
                assert_eq!(verdict, expected, "{name} {number}");
                assert!(steps < 60, "{name} {number}: {steps} instructions");
                assert_eq!(judge(&found, own ^ 1, number, [0; 6]).0, KILL, "{name}");
            }
            let conditional: Vec<u32> = linear
                .windows(2)
                .filter(|two| two[0].code == JUMP_EQUAL)
                .map(|two| two[0].k)
                .filter(|number| *number < 1500)
                .collect();
            // Of the shorter programs all, of the list of plain permissions there is nothing to look at.
            if linear.iter().filter(|it| it.code == LOAD).count() > 2 {
                for arguments in arguments(&linear) {
                    for number in &conditional {
                        let expected = judge(&linear, own, *number, arguments).0;
                        let verdict = judge(&found, own, *number, arguments).0;
                        assert_eq!(verdict, expected, "{name} {number} {arguments:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_program_of_another_shape_is_left_alone() {
        let linear = i386::compile("deny").unwrap();
        assert!(search(&linear[1..]).is_none());
        assert!(search(&linear[..linear.len() - 1]).is_none());
        assert!(search(&search(&linear).unwrap()).is_none());
        assert!(search(&[]).is_none());
    }
}
