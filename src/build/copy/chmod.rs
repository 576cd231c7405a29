//! `--chmod`: octal, or the symbolic modes of chmod(1).

/// A parsed `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChmodSpec {
    /// The permission bits themselves.
    Octal(u32),
    /// Changes to the bits a file had, in order.
    Symbolic(Vec<Change>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")]
pub(crate) struct ChmodError {
    pub(crate) text: String,
}

/// One `[ugoa][+-=]permissions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which of the rwx triples: 0700, 070, 07 or several.
    who: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Assign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    Letters {
        /// The bits of `rwx` as one triple.
        bits: u32,
        /// `X`: execute for directories and for what somebody may execute already.
        execute_if_useful: bool,
        /// `s`: set-user-id with `u`, set-group-id with `g`.
        set_id: bool,
        /// `t`.
        sticky: bool,
    },
    /// The triple that the shift leads to, copied.
    Of { shift: u32 },
}

impl ChmodSpec {
    /// Parses octal digits of at most 07777, or comma-separated symbolic changes. Without `u`, `g`, `o`
    /// or `a` a change is for all; no umask takes part.
    pub(crate) fn parse(text: &str) -> Result<Self, ChmodError> {
        let error = || ChmodError {
            text: text.to_owned(),
        };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Self::Octal(mode)),
                _ => Err(error()),
            };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes).ok_or_else(error)?;
        }
        Ok(Self::Symbolic(changes))
    }

    /// The permission bits (07777) of a file that had `mode`.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => changes.iter().fold(mode & 0o7777, |mode, change| {
                change.apply(mode, is_directory)
            }),
        }
    }

    /// The mode for directories that the copy has to create above its destination.
    pub(super) fn for_created_parents(&self) -> Option<u32> {
        match self {
            Self::Octal(mode) => Some(*mode),
            Self::Symbolic(_) => None,
        }
    }
}

impl Change {
    fn apply(self, mode: u32, is_directory: bool) -> u32 {
        let (triple, special) = match self.permissions {
            Permissions::Of { shift } => ((mode >> shift) & 0o7, 0),
            Permissions::Letters {
                bits,
                execute_if_useful,
                set_id,
                sticky,
            } => {
                let execute = execute_if_useful && (is_directory || mode & 0o111 != 0);
                let set_user = set_id && self.who & 0o700 != 0;
                let set_group = set_id && self.who & 0o070 != 0;
                let special = if set_user { 0o4000 } else { 0 }
                    | if set_group { 0o2000 } else { 0 }
                    | if sticky { 0o1000 } else { 0 };
                (bits | u32::from(execute), special)
            }
        };
        let set = ((triple * 0o111) & self.who) | special;
        match self.operator {
            Operator::Add => mode | set,
            Operator::Remove => mode & !set,
            Operator::Assign => {
                let mut cleared = self.who;
                cleared |= if self.who & 0o700 != 0 { 0o4000 } else { 0 };
                cleared |= if self.who & 0o070 != 0 { 0o2000 } else { 0 };
                cleared |= if self.who == 0o777 { 0o1000 } else { 0 };
                // chmod(1): what is not named keeps a directory's set-id bits.
                if is_directory {
                    cleared &= !0o6000;
                }
                (mode & !cleared) | set
            }
        }
    }
}

/// `[ugoa]*([+-=]permissions)+`.
fn parse_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let operators = ['+', '-', '='];
    let first = clause.find(operators)?;
    let mut who = 0;
    for letter in clause[..first].chars() {
        who |= match letter {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o777;
    }
    let mut rest = &clause[first..];
    while let Some(symbol) = rest.chars().next() {
        let operator = match symbol {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Assign,
        };
        let end = rest[1..].find(operators).map_or(rest.len(), |at| at + 1);
        let permissions = parse_permissions(&rest[1..end])?;
        changes.push(Change {
            who,
            operator,
            permissions,
        });
        rest = &rest[end..];
    }
    Some(())
}

fn parse_permissions(text: &str) -> Option<Permissions> {
    match text {
        "u" => return Some(Permissions::Of { shift: 6 }),
        "g" => return Some(Permissions::Of { shift: 3 }),
        "o" => return Some(Permissions::Of { shift: 0 }),
        _ => {}
    }
    let (mut bits, mut execute_if_useful, mut set_id, mut sticky) = (0, false, false, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= 4,
            'w' => bits |= 2,
            'x' => bits |= 1,
            'X' => execute_if_useful = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(Permissions::Letters {
        bits,
        execute_if_useful,
        set_id,
        sticky,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_applied_as_by_chmod() {
        for (text, mode, is_directory, expected) in [
            ("644", 0o755, false, 0o644),
            ("0", 0o755, false, 0),
            ("04755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("g=u", 0o750, false, 0o770),
            ("a-w", 0o666, false, 0o444),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("+t", 0o777, true, 0o1777),
            ("u+rw,g-w,o=", 0o477, false, 0o650),
            ("a=r", 0o7777, false, 0o444),
            ("u=rwx", 0o4000, true, 0o4700),
            ("go-rwx", 0o644, false, 0o600),
            ("u+x-w", 0o644, false, 0o544),
            ("o=g", 0o640, false, 0o644),
        ] {
            let spec = ChmodSpec::parse(text).unwrap();
            assert_eq!(spec.apply(mode, is_directory), expected, "{text} {mode:o}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_buildkits_words() {
        for text in [
            "", "8", "10000", "0o644", "u", "u+q", "q+x", "u=rw,", "-1", "644x", "u=gx",
        ] {
            assert_eq!(
                ChmodSpec::parse(text).map_err(|error| error.to_string()),
                Err(format!(
                    "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                ))
            );
        }
    }
}
