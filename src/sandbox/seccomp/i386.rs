//! Filters for 32-bit programs on x86_64, joined to the native ones.
//!
//! A seccomp filter sees the calls of both architectures. seccompiler knows one per program and kills
//! every call of another, so its verdict on "another" becomes a jump to a second program.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::Deserialize;

use super::Error;

const LIST: &str = include_str!("../../../seccomp/i386.json");

/// linux/audit.h: EM_386 with the little-endian bit.
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// Where seccompiler's programs compare the architecture, and where they kill a foreign one.
const ARCH_COMPARISON: usize = 1;
const FOREIGN_ARCH: usize = 2;

#[derive(Deserialize)]
struct List {
    numbers: BTreeMap<String, i64>,
    #[serde(flatten)]
    filters: BTreeMap<String, Filter>,
}

#[derive(Deserialize)]
struct Filter {
    mismatch_action: Action,
    match_action: Action,
    filter: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Allow,
    Errno(u32),
}

#[derive(Deserialize)]
struct Rule {
    syscall: String,
    #[serde(default)]
    args: Vec<Condition>,
}

/// All conditions compare 32 bits; that is all a 32-bit program can pass.
#[derive(Deserialize)]
struct Condition {
    index: u8,
    op: Comparison,
    val: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Comparison {
    Eq,
    Ne,
    MaskedEq(u64),
}

impl From<Action> for SeccompAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Errno(errno) => Self::Errno(errno),
        }
    }
}

/// Compiles the filter `name` of `i386.json`.
pub(super) fn compile(name: &'static str) -> Result<BpfProgram, Error> {
    let failed = |message: String| Error::new(name, format!("i386: {message}"));
    let mut list: List = serde_json::from_str(LIST).map_err(|error| failed(error.to_string()))?;
    let filter = list
        .filters
        .remove(name)
        .ok_or_else(|| failed("not in the list".to_owned()))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in filter.filter {
        let number = *list
            .numbers
            .get(&rule.syscall)
            .ok_or_else(|| failed(format!("{} has no number", rule.syscall)))?;
        let conditions = rules.entry(number).or_default();
        if !rule.args.is_empty() {
            conditions.push(conditional(rule.args).map_err(|error| failed(error.to_string()))?);
        }
    }
    let filter = SeccompFilter::new(
        rules,
        filter.mismatch_action.into(),
        filter.match_action.into(),
        TargetArch::x86_64,
    );
    let mut program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|error| failed(error.to_string()))?;
    program[ARCH_COMPARISON].k = AUDIT_ARCH_I386;
    Ok(program)
}

fn conditional(conditions: Vec<Condition>) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.into_iter().map(|condition| {
        let op = match condition.op {
            Comparison::Eq => SeccompCmpOp::Eq,
            Comparison::Ne => SeccompCmpOp::Ne,
            Comparison::MaskedEq(mask) => SeccompCmpOp::MaskedEq(mask),
        };
        SeccompCondition::new(condition.index, SeccompCmpArgLen::Dword, op, condition.val)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// One program that judges native calls by `native` and i386 calls by `i386`.
pub(super) fn splice(mut native: BpfProgram, i386: BpfProgram) -> BpfProgram {
    let rest = native.len() - FOREIGN_ARCH - 1;
    let jump = &mut native[FOREIGN_ARCH];
    jump.code = 0x05; // BPF_JMP | BPF_JA
    jump.k = u32::try_from(rest).expect("programs are shorter than 4096 instructions");
    native.extend(i386);
    native
}

#[cfg(test)]
mod tests {
    use super::{ARCH_COMPARISON, AUDIT_ARCH_I386, FOREIGN_ARCH, compile, splice};

    #[test]
    fn programs_begin_as_the_splice_assumes() {
        let program = compile("allow").unwrap();
        let comparison = &program[ARCH_COMPARISON];
        // BPF_JMP | BPF_JEQ | BPF_K, over the next instruction when equal.
        let shape = (comparison.code, comparison.jt, comparison.jf, comparison.k);
        assert_eq!(shape, (0x15, 1, 0, AUDIT_ARCH_I386));
        // BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS.
        let verdict = &program[FOREIGN_ARCH];
        assert_eq!((verdict.code, verdict.k), (0x06, 0x8000_0000));
    }

    #[test]
    fn the_jump_lands_on_the_second_program() {
        let program = compile("deny").unwrap();
        let length = program.len();
        let spliced = splice(program.clone(), program.clone());
        let landing = FOREIGN_ARCH + 1 + spliced[FOREIGN_ARCH].k as usize;
        assert_eq!(landing, length);
        assert_eq!(spliced[landing], program[0]);
    }
}
