//! Subordinate ids: `/etc/subuid` and `/etc/subgid` (subuid(5)).

/// Consecutive ids that a user may map into a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u32,
    pub(crate) count: u32,
}

/// The ranges of a user, who may be listed by name or by number, in the order of the file. Lines that
/// are not of the form `user:start:count` are nobody's.
pub(crate) fn parse(file: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    file.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let start = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            let own = Some(owner) == name || owner == number;
            (own && count > 0 && fields.next().is_none()).then_some(Range { start, count })
        })
        .collect()
}

/// The arguments of newuidmap(1) and newgidmap(1) after the pid: id 0 is `own`, the ranges follow from 1.
/// Ranges that would not fit into 32 bits are left out.
pub(crate) fn map_arguments(own: u32, ranges: &[Range]) -> Vec<String> {
    let mut arguments = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut next: u32 = 1;
    for range in ranges {
        let Some(end) = next.checked_add(range.count) else {
            break;
        };
        arguments.extend([next, range.start, range.count].map(|number| number.to_string()));
        next = end;
    }
    arguments
}

/// An id map (`/proc/self/uid_map`) that maps every id of the map `current` to itself; `None` when that
/// has one id only, or is not a map.
pub(crate) fn identity_map(current: &str) -> Option<String> {
    let mut total: u64 = 0;
    let mut map = String::new();
    for line in current.lines() {
        let mut fields = line.split_ascii_whitespace();
        let inside: u32 = fields.next()?.parse().ok()?;
        let _outside: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        total += u64::from(count);
        map.push_str(&format!("{inside} {inside} {count}\n"));
    }
    (total > 1).then_some(map)
}

#[cfg(test)]
mod tests {
    use super::{Range, identity_map, map_arguments, parse};

    const FILE: &str = "alice:100000:65536\n1001:300000:10\nbob:1:x\nalice:500000:5\n# alice:1:1\n";

    #[test]
    fn ranges_belong_to_names_and_numbers() {
        let first = Range {
            start: 100_000,
            count: 65_536,
        };
        let second = Range {
            start: 500_000,
            count: 5,
        };
        let numbered = Range {
            start: 300_000,
            count: 10,
        };
        assert_eq!(parse(FILE, Some("alice"), 1000), [first, second]);
        assert_eq!(parse(FILE, Some("alice"), 1001), [first, numbered, second]);
        assert_eq!(parse(FILE, None, 1001), [numbered]);
        assert_eq!(parse(FILE, Some("bob"), 7), []);
    }

    #[test]
    fn ranges_follow_each_other_from_one() {
        let ranges = parse(FILE, Some("alice"), 1000);
        let expected = "0 1000 1 1 100000 65536 65537 500000 5";
        assert_eq!(map_arguments(1000, &ranges).join(" "), expected);
    }

    #[test]
    fn identity_maps_need_more_than_one_id() {
        assert_eq!(
            identity_map("         0          0 4294967295\n").unwrap(),
            "0 0 4294967295\n"
        );
        assert_eq!(
            identity_map("0 1000 1\n1 100000 65536\n").unwrap(),
            "0 0 1\n1 1 65536\n"
        );
        assert_eq!(identity_map("0 1000 1\n"), None);
        assert_eq!(identity_map("nonsense"), None);
    }
}
