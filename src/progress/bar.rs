//! How much of something is there, as docker draws it.

const WIDTH: usize = 20;

/// `[=====>              ]`
pub(super) fn bar(done: u64, total: u64) -> String {
    let share = u128::from(done.min(total)) * WIDTH as u128 / u128::from(total.max(1));
    let full = usize::try_from(share).unwrap_or(WIDTH);
    let tip = if full < WIDTH { ">" } else { "" };
    format!("[{:WIDTH$}]", format!("{}{tip}", "=".repeat(full)))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_full_when_everything_is_there() {
        for (done, total, expected) in [
            (0, 10, "[>                   ]"),
            (5, 10, "[==========>         ]"),
            (10, 10, "[====================]"),
            (11, 10, "[====================]"),
            (0, 0, "[>                   ]"),
            (u64::MAX, u64::MAX, "[====================]"),
        ] {
            assert_eq!(bar(done, total), expected);
        }
    }
}
